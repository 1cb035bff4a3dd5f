"""Layers whose weights need no cast, and gradients that no inference tensor takes part in."""

import pytest
import torch
from likeness.patching.host import frozen_layers
from likeness.tests.patching.host.gradients import CHECKPOINTED, inference_model, noisy, ours
from likeness.tests.patching.host.test_gradient_memory import Memory

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@CHECKPOINTED
def test_weights_in_place_take_no_function_of_ours(checkpointed, monkeypatch, family):
    """A layer with its weights in place gives, by PyTorch's own gradient, what it gives by a function of its own."""
    model, x, calls = inference_model(family), noisy(2), []
    plain = frozen_layers._input_gradient
    monkeypatch.setattr(frozen_layers, "_input_gradient", lambda *args: calls.append(args) or plain(*args))
    found = ours(model, x, checkpointed=checkpointed)
    assert not calls
    monkeypatch.setattr(frozen_layers, "_is_ordinary", lambda layer: False)
    expected = ours(model, x, checkpointed=checkpointed)
    assert calls and torch.equal(found.latents, expected.latents) and torch.equal(found.losses, expected.losses)


def test_convolutions_of_large_pictures_keep_no_input(monkeypatch):
    model, x, peaks = inference_model(), noisy(4, 32, 32), []
    ours(model, x)  # one-time allocations are not measured
    for largest in (frozen_layers._SMALL, 0):
        monkeypatch.setattr(frozen_layers, "_SMALL", largest)
        with Memory(model) as memory:
            ours(model, x, checkpointed=True)
        peaks.append(memory.peak)
    assert peaks[0] <= 1.1 * peaks[1]


def test_tensors_of_inference_mode_are_expected_only_where_there_are_any():
    """Intercepting every operation takes time, so a gradient does that only once it has met such a tensor."""
    model, x, runs = inference_model(), noisy(), []
    assert not ours(model, x).mixed
    scale = torch.full((1, 1, 32), 0.5)
    assert scale.is_inference()
    model.set_model_attn1_patch(
        lambda n, c, v, o: (runs.append(o["block"]) or n * scale if n.shape[-1] == 32 else n, c, v)
    )
    first = ours(model, x)
    count = len(runs)
    again = ours(model, x, mixed=True)
    assert first.mixed and again.mixed and torch.equal(first.latents, again.latents)
    assert len(runs) - count < count
