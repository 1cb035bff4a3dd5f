"""Samplers of the host that leave circles of references keep no model of a run in them."""

import gc
import weakref

import pytest
from comfy.samplers import CFGGuider
from likeness.patching.host import failures
from likeness.patching.host.attach import attach
from likeness.patching.host.passes import sample
from likeness.patching.host.window import ALWAYS
from likeness.tests.patching.pick_and_draw.guidance_runs import encoded
from likeness.tests.patching.tiny_models import latent, run_ksampler, tiny_model

SEED = 42
SAMPLING = {"seed": 5, "steps": 3, "cfg": 4.0, "scheduler": "normal"}


class Passing:
    node, window = "test", ALWAYS

    def __call__(self, call, forward):
        return forward(call)


def by_ksampler(model, sampler: str):
    run_ksampler(model, encoded("a cat"), encoded(""), latent(1, 8, 8), sampler=sampler, **SAMPLING)


def by_our_nodes(model, sampler: str):
    guider = CFGGuider(model)
    guider.set_conds(encoded("a cat"), encoded(""))
    guider.set_cfg(SAMPLING["cfg"])
    rest = {name: value for name, value in SAMPLING.items() if name != "cfg"}
    sample(guider, latent(1, 8, 8), sampler=sampler, denoise=1.0, node="test", **rest)


@pytest.mark.parametrize(("sampler", "collections"), [("euler", 0), ("dpm_fast", 1)])
@pytest.mark.parametrize("patched", [True, False])
@pytest.mark.parametrize("run", [by_ksampler, by_our_nodes])
def test_a_run_collects_at_most_once(run, patched, sampler, collections, monkeypatch):
    """KSampler with a model without patches is none of ours."""
    collected = []
    monkeypatch.setattr(failures.gc, "collect", lambda: collected.append(sampler))
    plain = tiny_model("sd1", seed=SEED)
    run(attach(plain, Passing()) if patched else plain, sampler)
    assert len(collected) == (collections if patched or run is by_our_nodes else 0)


@pytest.mark.parametrize("sampler", ["euler", "dpm_fast", "dpm_adaptive"])
@pytest.mark.parametrize("run", [by_ksampler, by_our_nodes])
def test_a_model_dies_with_its_last_name(run, sampler):
    plain = tiny_model("sd1", seed=SEED)
    gc.collect()
    gc.disable()
    try:
        # Only the node's own run frees a model without patches.
        model = attach(plain, Passing()) if run is by_ksampler else plain.clone()
        seen = weakref.ref(model)
        run(model, sampler)
        del model
        assert seen() is None
    finally:
        gc.enable()
