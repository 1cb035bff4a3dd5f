"""Forwards of layers that a run makes once for all of its gradients."""

import gc

import pytest
import torch
from likeness.patching.host import frozen_forwards
from likeness.patching.host.frozen_forwards import Forwards
from likeness.tests.patching.host.gradients import inference_model, noisy, ours, untouched, weights_of

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def test_forwards_are_made_once_for_a_run(monkeypatch):
    model, x, made, forwards = inference_model(), noisy(), [], Forwards()
    plain = frozen_forwards.frozen_forward
    monkeypatch.setattr(frozen_forwards, "frozen_forward", lambda *given: made.append(1) or plain(*given))
    before, expected = weights_of(model.model.diffusion_model), ours(model, x)
    made.clear()
    first = ours(model, x, forwards=forwards)
    count = len(made)
    again = ours(model, x, forwards=forwards)
    assert count and len(made) == count
    untouched(model.model.diffusion_model, before)
    for found in (first, again):
        assert torch.equal(found.latents, expected.latents)


def test_forwards_keep_no_weight():
    """A host that needs memory moves a model while a run still holds its forwards."""
    model, x, forwards = inference_model(), noisy(), Forwards()
    places = {weight.data_ptr() for weight in model.model.diffusion_model.parameters()}

    def sharing():
        gc.collect()
        return {id(t) for t in gc.get_objects() if type(t) is torch.Tensor and t.numel() and t.data_ptr() in places}

    before = sharing()
    ours(model, x, forwards=forwards)
    assert sharing() <= before


def test_a_forward_that_another_pack_adds_or_removes_during_a_run():
    model, x, forwards, calls = inference_model(), noisy(), Forwards(), []
    layer = model.model.diffusion_model.middle_block[0].out_layers[3]
    plain = layer.forward

    def added(x):
        calls.append(x.requires_grad)
        return plain(x)

    expected = ours(model, x, forwards=forwards).latents
    layer.forward = added
    try:
        assert ours(model, x, forwards=forwards).mixed or calls  # its weight is an inference tensor
        ours(model, x, forwards=Forwards())
        assert calls and all(calls) and layer.__dict__["forward"] is added
    finally:
        del layer.forward
    found = ours(model, x, forwards=forwards)
    assert not found.mixed and torch.equal(found.latents, expected)
