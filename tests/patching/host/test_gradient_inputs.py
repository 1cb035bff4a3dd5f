"""Losses, models and memory that a gradient accepts or refuses, with a message of one sentence."""

import comfy.hooks
import comfy.model_management
import comfy.samplers
import pytest
import torch
import torch.utils.checkpoint
from comfy_api.torch_helpers import set_torch_compile_wrapper
from likeness.patching.host.frozen_autograd import gradient
from likeness.patching.host.frozen_refusals import refuse_compiled
from likeness.tests.patching.host.gradients import (
    SIGMA,
    Features,
    inference_model,
    noisy,
    ours,
    patcher,
    sampling,
)
from likeness.tests.patching.tiny_models import _base_model, conditioning

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


class Full(Features):
    """Runs out of memory a given number of times."""

    def __init__(self, times, error=None):
        super().__init__()
        self.times, self.error = times, error or torch.cuda.OutOfMemoryError("CUDA out of memory.")

    def loss(self):
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return super().loss()


def attempt(features, **settings):
    model, x = inference_model(), noisy(2, 8, 8)
    with sampling(model, x) as conds:
        options = features.options(model)
        return gradient(
            model.model, conds, x, torch.full([2], SIGMA), options, loss=features.loss, node="Node", **settings
        )


def test_out_of_memory():
    plain, checkpointed = attempt(Features()), attempt(Features(), checkpointed=True)
    assert not plain.checkpointed and checkpointed.checkpointed
    again = attempt(Full(1))
    assert again.checkpointed and torch.equal(again.latents, checkpointed.latents)
    message = (
        "^Node: expected enough memory for a gradient through the model, got less than even recomputing its "
        "activations takes; use"
    )
    for features, settings in ((Full(2), {}), (Full(1), {"checkpointed": True})):
        with pytest.raises(torch.cuda.OutOfMemoryError, match=message):
            attempt(features, **settings)
        assert features.times == 0
    with pytest.raises(RuntimeError, match=r"^broken$"):
        attempt(Full(1, RuntimeError("broken")))


def test_losses():
    features = Features()
    features.loss = lambda: None
    assert attempt(features) is None
    features.loss = lambda: torch.zeros(2)
    with pytest.raises(
        ValueError, match=r"^Node: expected a loss that depends on the latents, got one that does not; remove"
    ):
        attempt(features)
    features.loss = lambda: Features.loss(features).sum()
    with pytest.raises(ValueError, match=r"^Node: expected one loss per latent, of shape \[2\], got \[\]"):
        attempt(features)


def test_another_way_to_run_the_model():
    seen, model = [], inference_model()

    def run(base, conds, x, timestep, options):
        seen.append((base, len(conds), x.requires_grad, sorted(options)))
        return comfy.samplers.calc_cond_batch(base, conds, x, timestep, options)

    x, features = noisy(2), Features()
    with sampling(model, x) as conds:
        options = {**features.options(model), "multigpu_clones": {}}
        sigma = torch.full([2], SIGMA)
        found = gradient(model.model, conds, x, sigma, options, loss=features.loss, node="Node", run=run)
        assert torch.equal(
            found.latents, gradient(model.model, conds, x, sigma, options, loss=features.loss, node="Node").latents
        )
    assert seen == [(model.model, 1, True, ["transformer_options"])]


def test_parts_with_different_scheduled_weights_are_refused():
    model, x = inference_model(), noisy()
    text = conditioning(model, seed=10)
    hooked = [[c[0], {**c[1], "hooks": comfy.hooks.create_hook_lora({}, 1.0, 0.0)}] for c in text]
    with pytest.raises(
        ValueError, match=r"^Node: expected the same scheduled weights for all parts of a prompt, got different ones; "
    ):
        ours(model, x, conds=text + hooked)


def test_compiled_models_are_refused():
    message = (
        "^Node: expected a model without torch.compile, got a compiled one, through which there is no gradient; "
        "remove the node"
    )
    model = inference_model()
    refuse_compiled(model, "Node")
    network = model.model.diffusion_model
    compiled = torch.compile(network, backend="eager")
    patched, wrapped = model.clone(), model.clone()
    patched.add_object_patch("diffusion_model", compiled)
    set_torch_compile_wrapper(wrapped, "eager")
    for one in (patched, wrapped):
        with pytest.raises(ValueError, match=message):
            refuse_compiled(one, "Node")
    block = patcher(_base_model("sd1", torch.float32, 41))
    block.model.diffusion_model.middle_block[0].compile(backend="eager")
    with pytest.raises(ValueError, match=message):
        refuse_compiled(block, "Node")
    refuse_compiled(model, "Node")
