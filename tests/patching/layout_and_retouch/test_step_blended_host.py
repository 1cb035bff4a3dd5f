"""Hooks, wrappers, guidance and ControlNets of either model reach that model's share of a step-blended run."""

import comfy.controlnet
import comfy.hooks
import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.layout_and_retouch.step_blended_runs import STEPS, alone, guider_of, run
from likeness.tests.patching.tiny_models import ONE_LEVEL, conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora, twins

import nodes

pytestmark = pytest.mark.slow

SAMPLERS = [
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "ddpm",
    "lcm",
    "ipndm",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "gradient_estimation",
    "er_sde",
    "seeds_2",
    "sa_solver",
    "ddim",
    "uni_pc",
]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_seam_between_equal_models_is_invisible(sampler):
    """Two copies of one model, one prompt: whatever the sampler keeps or asks for must pass the switch, so nothing may
    change."""
    vanilla, twin = twins(ONE_LEVEL)
    assert torch.equal(run(guider_of(vanilla, twin, Switch(steps=2), 0, 0), sampler), alone(vanilla, sampler=sampler))


def test_wrappers_around_sampling_run_for_both_models():
    """State that a patch is given when sampling starts is there during that model's own calls, and only there."""
    vanilla = tiny_model()
    models = {"vanilla": vanilla.clone(), "personalized": add_lora(vanilla)}
    seen = []

    def attach(name, model):
        def birth(executor, *args, **kwargs):
            guider = executor.class_obj
            before = guider.model_options
            guider.model_options = comfy.model_patcher.create_model_options_clone(before)
            guider.model_options["transformer_options"]["born"] = name
            try:
                return executor(*args, **kwargs)
            finally:
                guider.model_options = before

        def spy(executor, *args, **kwargs):
            options = kwargs.get("transformer_options") or args[-1]
            seen.append((name, options.get("born")))
            return executor(*args, **kwargs)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "test", birth)
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", spy)

    for name, model in models.items():
        attach(name, model)
    run(guider_of(*models.values(), Switch(steps=2)))
    assert seen == [("vanilla", "vanilla")] * 2 + [("personalized", "personalized")] * (STEPS - 2)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_each_model_keeps_its_own_guidance_functions(cfg):
    vanilla = tiny_model()
    models = {"vanilla": vanilla.clone(), "personalized": add_lora(vanilla)}
    seen = []
    for name, model in models.items():
        model.set_model_sampler_pre_cfg_function(
            lambda args, name=name: seen.append((name, "pre", len(args["conds_out"]))) or args["conds_out"]
        )
        model.set_model_sampler_post_cfg_function(
            lambda args, name=name: seen.append((name, "post", args["uncond"] is not None)) or args["denoised"],
            disable_cfg1_optimization=name == "personalized",
        )
    run(guider_of(*models.values(), Switch(steps=2), cfg=cfg), steps=3)
    uncond = cfg != 1.0
    assert seen == [("vanilla", "pre", 2), ("vanilla", "post", uncond)] * 2 + [
        ("personalized", "pre", 2),
        ("personalized", "post", True),
    ]


class _Control(comfy.controlnet.ControlBase):
    """Adds a constant to the middle block, and notes for whom it was prepared."""

    def __init__(self):
        super().__init__()
        self.prepared, self.cleaned = [], 0

    def pre_run(self, model, percent_to_timestep_function):
        super().pre_run(model, percent_to_timestep_function)
        self.prepared.append(model)

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        return {"input": [], "middle": [torch.full((x_noisy.shape[0], 64, 1, 1), 0.5)], "output": []}

    def cleanup(self):
        super().cleanup()
        self.cleaned += 1

    def copy(self):
        return self


def controlled(model, control, seed):
    return [[conditioning(model, seed=seed)[0][0], {"control": control, "control_apply_to_uncond": True}]]


def test_control_reaches_the_model_that_samples():
    vanilla, personalized = tiny_model(), tiny_model(seed=9)
    control = _Control()
    prompts = [controlled(vanilla, control, seed) for seed in (0, 2)]
    middle = run(guider_of(vanilla, personalized, Switch(steps=2), *prompts))
    assert control.prepared == [vanilla.model, personalized.model]
    assert control.cleaned > 0
    assert not torch.equal(middle, run(guider_of(vanilla, personalized, Switch(steps=2))))
    assert torch.equal(
        run(guider_of(vanilla, personalized, Switch(steps=0), *prompts)),
        alone(personalized, controlled(vanilla, control, 2)),
    )


def hooked(model, seed, strength):
    """A prompt that brings its own LoRA, as conditioning hooks do."""
    weights = {
        key: (0.2 * torch.ones_like(weight),)
        for key, weight in model.model.state_dict().items()
        if "attn2.to_v" in key and weight.ndim == 2
    }
    hook = comfy.hooks.WeightHook(strength_model=strength)
    hook.weights = weights
    hook.need_weight_init = False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    return [[conditioning(model, seed=seed)[0][0], {"hooks": group}]]


@pytest.mark.parametrize("shared", [True, False])
def test_weight_hooks_of_either_prompt_are_taken_back(shared):
    vanilla = tiny_model()
    personalized = add_lora(vanilla) if shared else tiny_model(seed=9)
    expected = [alone(vanilla, steps=3), alone(personalized, 2, steps=3)]
    alone(vanilla, steps=1)
    prompts = hooked(vanilla, 0, 1.0), hooked(personalized, 2, 0.5)
    middle = run(guider_of(vanilla, personalized, Switch(steps=2), *prompts), steps=3)
    assert not torch.equal(middle, run(guider_of(vanilla, personalized, Switch(steps=2)), steps=3))
    assert vanilla.hook_patches == {} and personalized.hook_patches == {}
    first, second = (run(guider_of(vanilla, personalized, Switch(steps=n), *prompts), steps=3) for n in (3, 0))
    assert torch.equal(first, alone(vanilla, prompts[0], steps=3))
    assert torch.equal(second, alone(personalized, prompts[1], steps=3))
    assert torch.equal(alone(vanilla, steps=3), expected[0])
    assert torch.equal(alone(personalized, 2, steps=3), expected[1])


def test_one_model_with_two_prompts():
    """Textual Inversion: the weights are the same, only the personalized prompt has the subject's embedding."""
    model = tiny_model()
    guider = guider_of(model, model, Switch(steps=2))
    result = run(guider)
    assert not torch.equal(result, alone(model, 0)) and not torch.equal(result, alone(model, 2))
    assert torch.equal(result, run(guider_of(model, model.clone(), Switch(steps=2))))
    assert torch.equal(run(guider_of(model, model, Switch(steps=0))), alone(model, 2))


def test_masks_of_a_batch_stay_with_their_images():
    vanilla, twin = twins()
    known = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, 64, 64)
    mask[0, :, 32:] = 1
    mask[1, 32:] = 1
    guider = guider_of(vanilla, twin, Switch(steps=2), 0, 0)
    start = {"samples": known, "noise_mask": mask}
    expected = nodes.common_ksampler(
        vanilla, 3, STEPS, 4.0, "euler", "normal", conditioning(vanilla, seed=0), conditioning(vanilla, seed=1), start
    )
    assert torch.equal(run(guider, start=start), expected[0]["samples"])
