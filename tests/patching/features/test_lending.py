"""Lending to a method of no paper: the modes agree, and nothing borrowed changes nothing."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL, Lending
from likeness.patching.features.shared_attention import SharedAttention
from likeness.patching.host.attach import attach
from likeness.patching.host.families import discover, family_of
from likeness.patching.host.window import ALWAYS, Window
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, reference, run
from likeness.tests.patching.tiny_models import tiny_model

NODE = "test"


@dataclass(frozen=True, eq=False)
class Mirrored(SharedAttention):
    """The target's queries, shifted by the mean of the references' queries, over all keys."""

    scale: float = 1.0

    @property
    def reads_queries(self) -> bool:
        return True

    def share(self, shared, attention):
        assert shared.own == shared.q.shape[1] and shared.reference_q.shape[1] == sum(shared.counts)
        return attention(shared.q + self.scale * shared.reference_q.mean(1, keepdim=True), shared.k, shared.v)


@dataclass(frozen=True, eq=False)
class Method:
    """A patch with nothing but a lending."""

    lending: Lending
    scale: float = 1.0
    window: Window = ALWAYS
    node: str = NODE

    @property
    def batches(self) -> int:
        return self.lending.batches

    def prepare(self, guider, noise, latent_image, sigmas, denoise_mask=None):
        self.lending.prepare(guider, [float(s) for s in sigmas[:-1]])
        return noise

    def __call__(self, call, forward):
        return self.lending.lender(call).lend(call, forward, partial(Mirrored, scale=self.scale))


def patched(model, references, mode, scale=1.0):
    blocks = discover(model, NODE)[-2:]
    lending = Lending(NODE, family_of(model, NODE), blocks, tuple(references), mode)
    return attach(model, Method(lending, scale))


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_modes_agree_on_a_method_that_reads_queries(cfg):
    model, subject = tiny_model("sd1"), torch.zeros(64, 64)
    subject[8:56, 16:48] = 1
    first, *others = (
        run(patched(model, [reference(model, mask=subject), reference(model, 21)], mode), batch=2, cfg=cfg)
        for mode in (BATCHED, SEQUENTIAL, BANKED)
    )
    for other in others:
        close(other, first)
    assert not torch.allclose(first, run(model, batch=2, cfg=cfg), rtol=1e-2)


def test_the_queries_are_the_references():
    """Without the shift the method is plain shared attention, so the shift must be of something."""
    model = tiny_model("sd1")
    with_queries, without = (run(patched(model, [reference(model)], SEQUENTIAL, scale)) for scale in (1.0, 0.0))
    assert float((with_queries - without).abs().max()) > 1e-3


def test_no_references_change_no_bit():
    model = tiny_model("sd1")
    assert torch.equal(run(patched(model, [], BATCHED)), run(model))


def test_a_run_that_was_not_prepared_is_refused():
    model = tiny_model("sd1")
    lending = Lending(NODE, family_of(model, NODE), discover(model, NODE), (reference(model),), SEQUENTIAL)

    @dataclass(frozen=True, eq=False)
    class Unprepared:
        node: str = NODE
        window: Window = ALWAYS

        def __call__(self, call, forward):
            return lending.lender(call).lend(call, forward, Mirrored)

    with pytest.raises(RuntimeError, match="test: expected a run that was prepared"):
        run(attach(model, Unprepared()))
