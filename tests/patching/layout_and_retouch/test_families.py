"""Families and prompts that give the network more than text: what references, layouts and palettes get of it."""

import comfy.gligen
import comfy.supported_models
import pytest
import torch
from comfy.controlnet import ControlBase
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import NOISED, Reference
from likeness.patching.host.passes import call_arguments, run_pass, sample
from likeness.patching.layout_and_retouch.settings import NONE, QKV_BOTH
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching import tiny_models
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    POSITIVE,
    close,
    mask,
    reference,
    retouched,
)
from likeness.tests.patching.tiny_models import WIDTH_POOLED, conditioning, latent, run_ksampler, tiny_model

MODES = (BATCHED, SEQUENTIAL, BANKED)


class _InstructPix2Pix(comfy.supported_models.SD15_instructpix2pix):
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}


class _Refiner(comfy.supported_models.SDXLRefiner):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16}


class _Unclip(comfy.supported_models.SD21UnclipL):
    unet_extra_config = {"num_heads": -1, "num_head_channels": 16}


KINDS = {
    "inpainting": ("sd1", tiny_models._SD1, {}, 9),
    "instruct-pix2pix": ("sd1", _InstructPix2Pix, {}, 8),
    "refiner": ("sdxl", _Refiner, {"adm_in_channels": 5 * 256 + WIDTH_POOLED}, 4),
    "unclip": ("sd2", _Unclip, {"adm_in_channels": 16, "num_classes": "sequential"}, 4),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return model_of(request.param, request.getfixturevalue("monkeypatch"))


def model_of(name, monkeypatch):
    base, family, changes, channels = KINDS[name]
    monkeypatch.setitem(tiny_models._CONFIGS, name, tiny_models._CONFIGS[base] | changes)
    monkeypatch.setitem(tiny_models._CLASSES, name, family)
    return tiny_model(name, channels=channels)


@pytest.mark.parametrize("mode", MODES)
def test_a_reference_that_is_the_target_changes_nothing(kind, mode):
    """Both sides of guidance get what the host gives the target: mask and image channels, sizes, scores."""
    given = latent(1, 8, 8, 20)
    item = Reference(given, conditioning(kind, seed=POSITIVE), NOISED, 3)
    settings = {"positive": conditioning(kind, seed=POSITIVE), "latent_image": given, "steps": 1, "denoise": 0.5}
    swapped = retouched(kind, [item], mode=mode, early_swap=NONE, lambda_2=0)
    close(run_ksampler(swapped, **settings), run_ksampler(kind, **settings))
    other = retouched(kind, [reference(kind)], mode=mode, early_swap=NONE, lambda_2=0)
    assert not torch.allclose(run_ksampler(other, **settings), run_ksampler(kind, **settings), rtol=1e-3)


def layout(model, given, steps=3):
    guider = StepBlendedGuider(model, model, Switch(steps=0))
    guider.set_blended_conds(
        conditioning(model, seed=13), conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE)
    )
    guider.set_cfg(4.0)
    return sample(guider, given, 3, steps, "euler", "normal", 1.0, "test")["samples"], guider.trajectory


def run(model, given, steps=3):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE))
    guider.set_cfg(4.0)
    return sample(guider, given, 3, steps, "euler", "normal", 1.0, "test")["samples"]


def test_a_layout_of_a_part_of_a_picture(monkeypatch):
    """An inpainting model sees the layout's rows with the run's own picture and noise mask."""
    model = model_of("inpainting", monkeypatch)
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 16:48, 16:48] = 1
    given = {**latent(1, 8, 8, 20), "noise_mask": hole}
    picture, trajectory = layout(model, given)
    for early, lambda_2 in ((NONE, 0), (QKV_BOTH, 3)):
        patched = retouched(
            model,
            [reference(model)],
            layout=trajectory,
            mask=mask(value=0.0),
            early_swap=early,
            lambda_2=lambda_2,
            lambda_3=lambda_2,
            blocks=("output9", "output10", "output11"),
        )
        close(run(patched, given), picture)


def test_an_inverted_reference_of_an_inpainting_model(monkeypatch):
    """A pass over a picture gives the model the same channels as the rows of a run."""
    model, seen = model_of("inpainting", monkeypatch), []
    given = latent(1, 8, 8, 20)["samples"]
    conditioned = conditioning(model, seed=POSITIVE)

    def spy(apply, args):
        seen.append(args["c"]["c_concat"])
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(spy)
    run_pass(model, conditioned, given, [2.0], lambda denoise, x: seen.append(denoise(x, 2.0)))
    made = call_arguments(model.model, conditioned, given, True)
    assert torch.equal(seen[0], made["c_concat"])


class _Control(ControlBase):
    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        return {"middle": [x_noisy.new_ones(1, 1, 1, 1)]}

    def copy(self):
        return self

    def get_models(self):
        return []


def with_control(model):
    return [[text, {**rest, "control": _Control()}] for text, rest in conditioning(model, seed=POSITIVE)]


class _Boxes:
    """A GLIGEN model around random modules."""

    def __init__(self, model):
        widths = [m.norm1.normalized_shape[0] for m in model.model.diffusion_model.modules() if hasattr(m, "attn1")]
        torch.manual_seed(0)
        modules = [comfy.gligen.GatedSelfAttentionDense(width, 8, 2, 8) for width in widths]
        for module in modules:
            for parameter in module.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        self.model = comfy.gligen.Gligen(modules, lambda boxes, masks, texts: texts[..., :8], 8).requires_grad_(False)


def with_boxes(model):
    boxes = ("position", _Boxes(model), [(torch.ones(1, 8), 4, 4, 0, 0)])
    return [[text, {**rest, "gligen": boxes}] for text, rest in conditioning(model, seed=POSITIVE)]


@pytest.mark.parametrize("add", [with_control, with_boxes])
def test_additions_to_the_samplers_prompt_are_the_targets_alone(add, monkeypatch):
    """They do not reach references and layouts, and all modes agree."""
    model = tiny_model("sd1")
    monkeypatch.setattr(comfy.sampler_helpers, "get_additional_models", lambda *_: ([], 0))
    found = []
    for mode in MODES:
        patched = retouched(
            model,
            [reference(model)],
            layout=layout(model, {"samples": torch.zeros(1, 4, 8, 8)})[1],
            mask=mask(),
            mode=mode,
        )
        settings = {"latent_image": {"samples": torch.zeros(1, 4, 8, 8)}, "steps": 3}
        found.append(run_ksampler(patched, add(model), **settings))
    close(found[1], found[0])
    close(found[2], found[0])
    assert not torch.allclose(found[0], run_ksampler(patched, **settings), rtol=1e-3)
