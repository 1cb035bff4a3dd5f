"""Whatever changes a model between two runs, the second gives what fresh objects give, bit for bit."""

from dataclasses import replace

import comfy.hooks
import pytest
import torch
from comfy.patcher_extension import PatcherInjection, WrappersMP
from comfy_extras.nodes_freelunch import FreeU
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from likeness.patching.features.lending import BANKED, SEQUENTIAL
from likeness.patching.features.references import INVERTED, References
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from likeness.tests.patching.host.test_identity import bypass_lora, compute_dtype
from likeness.tests.patching.jedi import joint_runs
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    POSITIVE,
    close,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.pick_and_draw import guidance_runs
from likeness.tests.patching.tiny_models import conditioning, run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora

pytestmark = pytest.mark.slow

STEPS = 2
NETWORK_PATCHES = {
    "attn1_patch": lambda n, context, value, options: (n, 1.1 * context, value),
    "attn2_patch": lambda n, context, value, options: (n, 1.1 * context, value),
    "attn1_output_patch": lambda n, options: 1.1 * n,
    "attn2_output_patch": lambda n, options: 1.1 * n,
    "middle_patch": lambda x, options: 1.1 * x,
}


def network_patch(slot):
    def change(model):
        clone = model.clone()
        clone.set_model_patch(NETWORK_PATCHES[slot], slot)
        return clone

    return change


def replacement(model):
    clone = model.clone()
    for number in (3, 4, 5):
        clone.set_model_attn2_replace(lambda q, k, v, options: 0.5 * q, "output", number)
    return clone


def function_wrapper(model):
    clone = model.clone()
    clone.set_model_unet_function_wrapper(lambda apply, a: 0.9 * apply(a["input"], a["timestep"], **a["c"]))
    return clone


def network_wrapper(model):
    clone = model.clone()
    clone.add_wrapper(WrappersMP.DIFFUSION_MODEL, lambda executor, x, *a, **k: 0.9 * executor(x, *a, **k))
    return clone


def injection(model):
    clone, layer = model.clone(), model.model.diffusion_model.output_blocks[3][1].transformer_blocks[0].attn1.to_q
    original = type(layer).forward
    inject = PatcherInjection(
        inject=lambda patcher: setattr(layer, "forward", lambda x: 0.5 * original(layer, x)),
        eject=lambda patcher: layer.__dict__.pop("forward", None),
    )
    clone.set_injections("test", [inject])
    return clone


def attention_override(model):
    clone = model.clone()
    clone.model_options["transformer_options"]["optimized_attention_override"] = lambda attention, *a, **k: (
        0.9 * attention(*a, **k)
    )
    return clone


CHANGES = {
    "lora": add_lora,
    "bypass_lora": bypass_lora,
    **{slot: network_patch(slot) for slot in NETWORK_PATCHES},
    "replacement": replacement,
    "freeu": lambda model: FreeU.execute(model, 1.1, 1.2, 0.9, 0.2)[0],
    "deep_shrink": lambda model: PatchModelAddDownscale.execute(model, 3, 2.0, 0.0, 0.35, True, "bicubic", "bicubic")[
        0
    ],
    "v_prediction": lambda model: ModelSamplingDiscrete().patch(model, "v_prediction", False)[0],
    "zero_snr": lambda model: ModelSamplingDiscrete().patch(model, "eps", True)[0],
    "precision": compute_dtype,
    "function_wrapper": function_wrapper,
    "network_wrapper": network_wrapper,
    "injection": injection,
    "attention_override": attention_override,
}


def inverted(model):
    """A picture whose inversion is short."""
    return replace(reference(model, kind=INVERTED), inversion_steps=STEPS)


class Banked:
    """Retouches with a reference whose inversion and features are kept."""

    settings = RetouchSettings(NONE, 0, STEPS, attention=APPEND, mode=BANKED)

    def __init__(self, model):
        self.references = References((inverted(model),))

    def __call__(self, model):
        return run(retouch(model, self.references, None, None, self.settings), steps=STEPS)


class PictureLayout:
    """Retouches that blend a picture in as the layout, whose outputs are kept."""

    def __init__(self, model):
        self.layout = inverted(model)

    def __call__(self, model, negative=NEGATIVE):
        patched = retouched(
            model,
            early_swap=NONE,
            lambda_2=0,
            lambda_3=0,
            mode=BANKED,
            mask=mask(),
            layout=self.layout,
            layout_negative=conditioning(model, seed=negative),
        )
        return run(patched, steps=STEPS)


class Palette:
    """Guided runs with a palette and a recorded template."""

    def __init__(self, model):
        given = guidance_runs.palette(model, source=INVERTED)
        (item,) = given.references.items
        self.palette = replace(given, references=References((replace(item, inversion_steps=STEPS),)))
        self.template = guidance_runs.recorded()

    def __call__(self, model):
        patched, _ = guidance_runs.guided(model, self.palette, self.template)
        return guidance_runs.run(patched)


class Joint:
    """Sets with a known member."""

    def __init__(self, model):
        self.references = (joint_runs.reference(model),)

    def __call__(self, model):
        return joint_runs.run(model, references=self.references, steps=STEPS)


def model_for(kept):
    # Weights made in inference mode are no constants for a gradient; each folder of tests has a model of its own.
    return guidance_runs.model_of() if kept is Palette else tiny_model("sd1", seed=42)


SOME = ("bypass_lora", "attn2_output_patch", "v_prediction", "function_wrapper")
CASES = [(Banked, name) for name in CHANGES] + [
    (kept, name) for kept in (PictureLayout, Palette, Joint) for name in SOME
]
_BEFORE: dict = {}


@pytest.mark.parametrize("kept, name", CASES)
def test_a_changed_model_gives_what_fresh_objects_give(kept, name):
    model = model_for(kept)
    if kept not in _BEFORE:
        made = kept(model)
        _BEFORE[kept] = made, made(model)
    made, plain = _BEFORE[kept]
    result = made(CHANGES[name](model))
    assert torch.equal(result, kept(model)(CHANGES[name](model)))
    assert not torch.equal(result, plain), "expected a change that acts"


def test_the_plain_model_afterwards_gives_what_it_gave():
    for kept, (made, plain) in _BEFORE.items():
        assert torch.equal(made(model_for(kept)), plain)
    assert _BEFORE


def test_a_patch_that_its_pack_changes_in_place_is_seen():
    model, scale = tiny_model("sd1", seed=42).clone(), [1.0]
    model.set_model_attn1_output_patch(lambda n, options: scale[0] * n)
    made = Banked(model)
    made(model)
    scale[0] = 1.2
    assert torch.equal(made(model), Banked(model)(model))


def test_another_negative_prompt_of_a_picture_is_seen():
    model = tiny_model("sd1", seed=42)
    made = PictureLayout(model)
    before, after = made(model), made(model, 14)
    close(after, PictureLayout(model)(model, 14))
    assert not torch.allclose(after, before, rtol=1e-2)


def test_weights_that_a_prompt_schedules_are_seen():
    """Hooks of a prompt change the weights of some calls, whose references no bank holds."""
    model = tiny_model("sd1", seed=42)
    weights = {k: (0.3 * torch.ones_like(w),) for k, w in model.model.state_dict().items() if "attn1.to_v.w" in k}
    hook, hooks = comfy.hooks.WeightHook(1.0, 0.0), comfy.hooks.HookGroup()
    hook.weights, hook.need_weight_init = weights, False
    hooks.add(hook)
    hooked = comfy.hooks.set_hooks_for_conditioning(conditioning(model, seed=POSITIVE), hooks)
    made, empty = Banked(model), {"samples": torch.zeros(1, 4, 8, 8)}
    before, negative = made(model), conditioning(model, seed=NEGATIVE)

    def run_hooked(made, mode=BANKED):
        patched = retouch(model, made.references, None, None, replace(made.settings, mode=mode))
        return run_ksampler(patched, hooked, negative, empty, steps=STEPS)

    result = run_hooked(made)
    close(result, run_hooked(Banked(model)))
    close(result, run_hooked(Banked(model), SEQUENTIAL))
    assert torch.equal(made(model), before)
