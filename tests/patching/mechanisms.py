"""Stand-ins for the mechanisms by which other packs change sampling; the host's own nodes where it has some.

A mechanism maps (MODEL, positive CONDITIONING) to new ones. None stands for a node that an older host lacks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import comfy.hooks
import comfy.ldm.modules.attention as host_attention
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from likeness.tests.patching.tiny_models import conditioning
from likeness.tests.patching.two_models import add_lora

Mechanism = Callable[[comfy.model_patcher.ModelPatcher, list], tuple[comfy.model_patcher.ModelPatcher, list]]

LAYER = ("output", 4)
SIDE = 16
WrappersMP = comfy.patcher_extension.WrappersMP


def of_model(change) -> Mechanism:
    """A mechanism that changes a clone of MODEL in place."""

    def applied(model, positive):
        clone = model.clone()
        change(clone)
        return clone, positive

    return applied


def of_host(module: str, node: str, *values, **named) -> Mechanism | None:
    """One of the host's nodes; None on a host without it."""
    try:
        found = getattr(importlib.import_module(f"comfy_extras.{module}"), node)
    except (ImportError, AttributeError):
        return None

    def applied(model, positive):
        if hasattr(found, "execute"):
            return found.execute(model, *values, **named)[0], positive
        return getattr(found(), found.FUNCTION)(model, *values, **named)[0], positive

    return applied


def _attention(q, k, v, extra):
    return host_attention.optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"])


def _louder_values(n, context, value, extra):
    return n, context, 1.3 * value


def _warmer(q, k, v, extra):
    return _attention(0.3 * q, k, v, extra)


def _with_picture_tokens(q, k, v, extra):
    """Adds the attention to further tokens, as IP-Adapter does, prompt by prompt."""
    more = [
        torch.full_like(part[:, :3], 0.5 * (1 + side))
        for side, part in zip(extra["cond_or_uncond"], k.chunk(len(extra["cond_or_uncond"])), strict=True)
    ]
    tokens = torch.cat(more)
    return _attention(q, k, v, extra) + 0.5 * _attention(q, tokens, tokens, extra)


def _output(out, extra):
    return 1.3 * out


def _override(attend, q, k, v, *args, **kwargs):
    return 0.9 * attend(q, k, v, *args, **kwargs)


def _function(apply, given):
    return 0.9 * apply(given["input"], given["timestep"], **given["c"])


def _halves(apply, given):
    return torch.cat([apply(half, given["timestep"], **given["c"]) for half in given["input"].chunk(2, 2)], 2)


def _halves_at_once(apply, given):
    c, t = dict(given["c"]), given["timestep"]
    c["c_crossattn"] = torch.cat([c["c_crossattn"]] * 2)
    return torch.cat(apply(torch.cat(given["input"].chunk(2, 2)), torch.cat([t, t]), **c).chunk(2), 2)


def _again(args):
    """Evaluates the prompt with other attention, before guidance."""
    options = comfy.model_patcher.set_model_options_patch_replace(
        args["model_options"].copy(), _warmer, "attn1", *LAYER
    )
    (found,) = comfy.samplers.calc_cond_batch(args["model"], args["conds"][:1], args["input"], args["sigma"], options)
    return [2 * args["conds_out"][0] - found, *args["conds_out"][1:]]


def _rescaled(args):
    return 0.9 * (args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"]))


def _calculated(args):
    found = comfy.samplers.calc_cond_batch(
        args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
    )
    return [0.9 * part for part in found]


def _around_model(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
    return 0.9 * executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)


def _around_network(executor, x, timesteps, context, y, control, transformer_options, **kwargs):
    return 0.9 * executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def _injected(model):
    """Scales a bias while the model is loaded, as packs do that put modules into the network."""
    bias = model.model.diffusion_model.out[2].bias

    def scale(factor):
        with torch.inference_mode():
            bias.data.mul_(factor)

    model.set_injections(
        "test", [comfy.patcher_extension.PatcherInjection(lambda _: scale(8.0), lambda _: scale(0.125))]
    )


def _lora_hooks(model, positive):
    group = comfy.hooks.HookGroup()
    hook = comfy.hooks.WeightHook(strength_model=0.5, strength_clip=0.0)
    group.add(hook)
    hook.weights, hook.need_weight_init = dict(add_lora(model.clone()).patches), False
    hook.weights = {key: parts[0][1] for key, parts in hook.weights.items()}
    return model, comfy.hooks.set_hooks_for_conditioning(positive, group)


def _prediction(model):
    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
        pass

    model.add_object_patch("model_sampling", Sampling(model.model.model_config))


def _other_text() -> list:
    return conditioning(None, tokens=77, seed=9)  # pyright: ignore[reportArgumentType]


def _region(model, positive):
    return model, [
        *positive,
        *([text, {**rest, "area": (8, 16, 4, 0), "strength": 1.0}] for text, rest in _other_text()),
    ]


def _masked(model, positive):
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :, :8] = 1
    return model, [*positive, *([text, {**rest, "mask": mask, "mask_strength": 1.0}] for text, rest in _other_text())]


MECHANISMS: dict[str, Mechanism | None] = {
    "attn1 patch": of_model(lambda m: m.set_model_attn1_patch(_louder_values)),
    "attn1 replacement": of_model(lambda m: m.set_model_attn1_replace(_warmer, *LAYER)),
    "attn1 output patch": of_model(lambda m: m.set_model_attn1_output_patch(_output)),
    "both sides of guidance in an output patch": of_host("nodes_nag", "NAGuidance", 5.0, 0.5, 2.5),
    "attn2 patch": of_model(lambda m: m.set_model_attn2_patch(_louder_values)),
    "attn2 replacement": of_model(lambda m: m.set_model_attn2_replace(_with_picture_tokens, *LAYER)),
    "attn2 output patch": of_model(lambda m: m.set_model_attn2_output_patch(_output)),
    "attention override": of_model(
        lambda m: m.model_options["transformer_options"].update(optimized_attention_override=_override)
    ),
    "tiles in attention": of_host("nodes_hypertile", "HyperTile", 32, 1, 0, False),
    "token merging": of_host("nodes_tomesd", "TomePatchModel", 0.5),
    "block patch": of_host("nodes_freelunch", "FreeU_V2", 1.3, 1.4, 0.9, 0.2),
    "layers of another size": of_host(
        "nodes_model_downscale", "PatchModelAddDownscale", 3, 2.0, 0.0, 1.0, True, "bicubic", "bicubic"
    ),
    "model function wrapper": of_model(lambda m: m.set_model_unet_function_wrapper(_function)),
    "wrapper of model calls": of_model(lambda m: m.add_wrapper(WrappersMP.APPLY_MODEL, _around_model)),
    "wrapper of the network": of_model(lambda m: m.add_wrapper(WrappersMP.DIFFUSION_MODEL, _around_network)),
    "guidance function": of_model(lambda m: m.set_model_sampler_cfg_function(_rescaled)),
    "guidance that evaluates again, before": of_model(lambda m: m.set_model_sampler_pre_cfg_function(_again)),
    "guidance that evaluates again, after": of_host("nodes_pag", "PerturbedAttentionGuidance", 3.0),
    "guidance that evaluates other latents": of_host("nodes_sag", "SelfAttentionGuidance", 0.5, 2.0),
    "evaluation function": of_model(lambda m: m.model_options.update(sampler_calc_cond_batch_function=_calculated)),
    "context windows": of_host(
        "nodes_context_windows",
        "ContextWindowsManualNode",
        context_length=1,
        context_overlap=0,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="flat",
        dim=0,
        freenoise=False,
    ),
    "tiles, one per call": of_model(lambda m: m.set_model_unet_function_wrapper(_halves)),
    "tiles, several per call": of_model(lambda m: m.set_model_unet_function_wrapper(_halves_at_once)),
    "regional prompts": _region,
    "masked prompts": _masked,
    "LoRA": lambda model, positive: (add_lora(model), positive),
    "LoRA hooks": _lora_hooks,
    "injection": of_model(_injected),
    "model sampling": of_model(_prediction),
}
