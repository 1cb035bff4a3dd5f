"""Gradients through tiny real U-Nets as the host runs them: in inference mode, with weights that no graph can save."""

import comfy.hooks
import comfy.model_management
import comfy.samplers
import pytest
import torch
import torch.utils.checkpoint
from likeness.patching.host import frozen_autograd
from likeness.patching.host.frozen_autograd import Stop, differentiable, gradient
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
    sampling,
    untouched,
    weights_of,
)
from likeness.tests.patching.tiny_models import FAMILIES, conditioning, run_ksampler

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((family, torch.float32) for family in FAMILIES), ("sd2", torch.float16), ("sdxl", torch.bfloat16)],
)
def test_equals_ordinary_autograd(family, dtype, monkeypatch):
    monkeypatch.setattr(frozen_autograd, "attends_by_products", lambda *given: False)
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
                model.model,
                conds,
                x,
                torch.full([1], SIGMA),
                options,
                loss=parts.loss,
                node="Node",
                checkpointed=checkpointed,
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
        found = gradient(
            args["model"], args["cond"], args["input"], args["sigma"], options, loss=features.loss, node="Node"
        )
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


def test_half_precision_neither_vanishes_nor_overflows():
    x = noisy(1, 8, 12)
    exact = ours(inference_model(), x).latents
    for scale in (1e-4, 3e4):
        found = ours(inference_model(dtype=torch.float16), x, scale=scale).latents / scale
        assert found.isfinite().all() and error(found, exact) < 0.1
