"""Gradients through tiny real U-Nets as the host runs them: in inference mode, with weights that no graph can save."""

import comfy.hooks
import comfy.model_management
import comfy.samplers
import pytest
import torch
import torch.utils.checkpoint
from comfy_api.torch_helpers import set_torch_compile_wrapper
from likeness.patching.host.frozen_autograd import Stop, differentiable, gradient, refuse_compiled
from likeness.patching.host.unet import UNET
from likeness.tests.patching.host.gradients import (
    CHECKPOINTED,
    LAST,
    LAYERS,
    SIGMA,
    Features,
    error,
    inference_model,
    noisy,
    ordinary,
    ordinary_model,
    ours,
    patcher,
    sampling,
    untouched,
    weights_of,
)
from likeness.tests.patching.tiny_models import FAMILIES, _base_model, conditioning, run_ksampler

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((family, torch.float32) for family in FAMILIES), ("sd2", torch.float16), ("sdxl", torch.bfloat16)],
)
def test_equals_ordinary_autograd(family, dtype):
    model, x = inference_model(family, dtype), noisy(2)
    before = weights_of(model.model.diffusion_model)
    found = ours(model, x)
    untouched(model.model.diffusion_model, before)
    expected = ordinary(ordinary_model(family, dtype), x, scale=1024.0)
    assert found.latents.dtype == torch.float32 and found.latents.shape == x.shape and found.losses.shape == (2,)
    assert not found.latents.requires_grad and not found.losses.requires_grad
    assert error(found.latents, expected) < (1e-5 if dtype == torch.float32 else 1e-2)


def test_equals_finite_differences(family):
    """Finite differences in double precision, which keeps enough digits of the difference of two losses."""
    x, exact = noisy(), ordinary_model(family, torch.float64)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(latents):
        features = Features()
        options = features.options(exact)
        options["transformer_options"] = differentiable(
            options["transformer_options"]
        )  # the host's own attention rounds SD2's to single precision
        with sampling(exact, latents) as conds, torch.inference_mode(False):
            comfy.samplers.calc_cond_batch(
                exact.model, [conds], latents.clone(), torch.full([1], SIGMA, dtype=torch.float64), options
            )
        return features.loss()

    h = 1e-5
    slope = (loss(x.double() + h * direction) - loss(x.double() - h * direction)) / (2 * h)
    found = (ours(inference_model(family), x).latents.double() * direction).sum()
    assert float(found) == pytest.approx(float(slope), rel=1e-4)


def test_rows_are_independent(family):
    model, x = inference_model(family), noisy(3)
    together = ours(model, x)
    alone = ours(model, x[1:2])
    assert error(together.latents[1], alone.latents[0]) < 1e-5
    torch.testing.assert_close(together.losses[1], alone.losses[0])


class Reached:
    """Counts the output blocks that a forward pass reaches."""

    def __init__(self):
        self.blocks = []

    def __call__(self, h, skip, options):
        self.blocks.append(options["block"])
        return h, skip


@CHECKPOINTED
def test_stopping_early_gives_the_same_and_runs_less(checkpointed):
    x, reached, model = noisy(2, 9, 11), Reached(), inference_model("sdxl")
    model.set_model_output_block_patch(reached)
    full = ours(model, x, checkpointed=checkpointed)
    blocks = len(model.model.diffusion_model.output_blocks)
    assert reached.blocks == [("output", n) for n in range(blocks)]
    reached.blocks.clear()
    with torch.utils.checkpoint.set_checkpoint_early_stop(
        False
    ):  # torch's own early stop would end the second pass before Stop does
        early = ours(model, x, last=LAST, checkpointed=checkpointed)
    assert torch.equal(early.latents, full.latents) and torch.equal(early.losses, full.losses)
    assert reached.blocks == [("output", n) for n in range(LAST.number + 1)]
    assert LAST.number + 1 < blocks


def test_stop_is_no_failure_of_the_model():
    assert not issubclass(Stop, Exception)
    assert not issubclass(Stop, comfy.model_management.InterruptProcessingException)


@CHECKPOINTED
def test_each_of_several_model_calls_is_stopped_and_read(checkpointed):
    """The host runs prompts with areas one after the other, on parts of the latents."""

    class Parts(Features):
        def read(self, layer, hidden, size):
            self.seen[layer, size] = hidden

        def score(self, layer, hidden):
            return super().score(layer[0], hidden)

    model, x, found = inference_model(), noisy(1, 16, 24), []
    text = conditioning(model, seed=10)
    areas = (
        (text[0], (16, 8, 0, 0)),
        (conditioning(model, seed=11)[0], (16, 4, 0, 16)),
    )  # two sizes, since equal ones would share a call
    prompts = [[c[0], {**c[1], "area": area}] for c, area in areas]
    for last in (None, LAST):
        parts = Parts()
        with sampling(model, x, prompts) as conds:
            options = parts.options(model, last)
            result = gradient(
                model.model, conds, x, torch.full([1], SIGMA), options, parts.loss, "Node", checkpointed=checkpointed
            )
        found.append(result.latents)
    assert torch.equal(*found)
    touched = found[0].abs().amax((0, 1, 2)) > 0
    assert touched.tolist() == [True] * 8 + [False] * 8 + [True] * 4 + [False] * 4


class Sampler:
    """Takes a gradient after every step of a sampler without changing it."""

    def __init__(self):
        self.found = []

    def __call__(self, args):
        features = Features()
        options = args["model_options"]
        options = {
            **options,
            "transformer_options": UNET.tap_hidden_states(options["transformer_options"], LAYERS, features.read),
        }
        found = gradient(args["model"], args["cond"], args["input"], args["sigma"], options, features.loss, "Node")
        self.found.append(found.latents)
        return args["denoised"]


def test_within_a_sampler_it_changes_nothing():
    model, sampler = inference_model("sdxl"), Sampler()
    expected = run_ksampler(model, steps=2)
    model.set_model_sampler_post_cfg_function(sampler)
    assert torch.equal(run_ksampler(model, steps=2), expected)
    assert len(sampler.found) == 2 and all(found.norm() > 0 for found in sampler.found)


def test_a_chosen_attention_is_replaced_for_the_gradient_alone():
    """An attention without a gradient, like most fast ones."""
    model, plain, calls = inference_model(), inference_model(), []

    def fast(function, *args, **kwargs):
        calls.append(torch.is_inference_mode_enabled())
        return function(*args, **kwargs).detach()

    model.model_options["transformer_options"]["optimized_attention_override"] = fast
    x = noisy()
    assert torch.equal(ours(model, x).latents, ours(plain, x).latents)
    assert not calls
    options = {"optimized_attention_override": fast, "other": 1}
    assert differentiable(options)["other"] == 1 and options == {"optimized_attention_override": fast, "other": 1}
    model.set_model_sampler_post_cfg_function(Sampler())
    run_ksampler(model, steps=1)
    assert calls and all(calls)


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
        return gradient(model.model, conds, x, torch.full([2], SIGMA), options, features.loss, "Node", **settings)


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
        found = gradient(model.model, conds, x, sigma, options, features.loss, "Node", run=run)
        assert torch.equal(
            found.latents, gradient(model.model, conds, x, sigma, options, features.loss, "Node").latents
        )
    assert seen == [(model.model, 1, True, ["transformer_options"])]


def test_half_precision_neither_vanishes_nor_overflows():
    x = noisy(1, 8, 12)
    exact = ours(inference_model(), x).latents
    for scale in (1e-4, 3e4):
        found = ours(inference_model(dtype=torch.float16), x, scale=scale).latents / scale
        assert found.isfinite().all() and error(found, exact) < 0.1


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
