"""Sampling and single model passes through ComfyUI's guiders, which load, patch and unload weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP

from .checks import check_latent
from .early_end import ending
from .failures import without_circles
from .family import Options
from .frozen_blocks import Stop
from .run import KEY, RunInputs
from .window import ALWAYS, ModelSampling, Window, check_order

if TYPE_CHECKING:
    from comfy.model_base import BaseModel
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider

Denoise = Callable[[torch.Tensor, float], torch.Tensor]
"""(noisy latents [batch, channels, height, width], sigma) -> denoised latents, without guidance.

Where a reader of features ends the network's pass with Stop, the noisy latents come back.
Latents of a model with frames, here and everywhere else, are [batch, channels, 1, height, width].
"""

GUIDANCE_FUNCTIONS = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")
"""Model options that hold other packs' guidance functions."""

_BOXES = "middle_patch"
_RATIOS = ("downscale_ratio_spacial", "downscale_ratio_temporal")  # fields that only an empty latent has


def sample(
    guider: CFGGuider,
    latent: dict,
    seed: int | Sequence[int],
    steps: int,
    sampler: str,
    scheduler: str,
    denoise: float,
    node: str,
    only: Window = ALWAYS,
) -> dict:
    """KSampler's sampling with any guider: same sigmas, noise and preview. Returns a new LATENT.

    seed: one for the batch or one per latent. Noise added during sampling comes from the smallest.
    only: the part of sampling whose model calls are needed; where it ends early, the LATENT means nothing.
    Raises ValueError for a latent that is not one of images.
    """
    model = guider.model_patcher
    check_latent(latent["samples"], node, model)
    ratios = {key: latent[key] for key in _RATIOS if key in latent}
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], **ratios)
    if isinstance(seed, int):
        noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    else:
        noise = torch.cat([_noise(one, own) for one, own in zip(samples.split(1), seed, strict=True)])
    sigmas = schedule(model, steps, sampler, scheduler, denoise)
    chosen = comfy.samplers.sampler_object(sampler)
    if only.end_percent < 1:
        chosen = ending(chosen, only.resolve(model.get_model_object("model_sampling")))
    # A patched model's run collects by itself, and one collection takes longer than a step of a small model.
    patched = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    with contextlib.nullcontext() if patched else without_circles(sampler):
        result = guider.sample(
            noise,
            samples,
            chosen,
            sigmas,
            denoise_mask=latent.get("noise_mask"),
            callback=latent_preview.prepare_callback(model, len(sigmas) - 1),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed if isinstance(seed, int) else min(seed),
        )
    rest = {key: value for key, value in latent.items() if key not in _RATIOS}
    return {**rest, "samples": result.to(comfy.model_management.intermediate_device())}


def schedule(model: ModelPatcher, steps: int, sampler: str, scheduler: str, denoise: float) -> torch.Tensor:
    """KSampler's falling noise levels, one per step and the last one, 0."""
    made = comfy.samplers.KSampler(
        model,
        steps,
        model.load_device,
        sampler=sampler,
        scheduler=scheduler,
        denoise=denoise,
        model_options=model.model_options,
    )
    return made.sigmas


def _noise(samples: torch.Tensor, seed: int) -> torch.Tensor:
    noise = comfy.sample.prepare_noise(samples, seed)
    assert isinstance(noise, torch.Tensor)
    return noise


def run_pass(
    model: ModelPatcher,
    conditioning: list,
    samples: torch.Tensor,
    sigmas: Sequence[float],
    function: Callable[[Denoise, torch.Tensor], None],
    negative: list | None = None,
    denoise_mask: torch.Tensor | None = None,
) -> None:
    """Calls function(denoise, clean) once, with the model loaded; `function` has to keep its results itself.

    clean: `samples` in the model's latent space, on its device.
    samples: those of a LATENT, [batch, channels, height, width].
    sigmas: the noise levels that `function` will use, in order; they are the schedule and the progress bar.
    negative: CONDITIONING of a second side, which the model then evaluates in every call; its answers are not returned.
    denoise_mask: of a LATENT, for inpainting models alone.
    """
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning})
    if negative is not None:
        guider.inner_set_conds({"negative": negative})
        guider.model_options = {**guider.model_options, "disable_cfg1_optimization": True}
    run_guider(guider, samples, sigmas, function, denoise_mask)


def unwrapped(model: ModelPatcher) -> bool:
    """True where each call of MODEL calls its network once, so that a reader may end a pass over it.

    Other nodes' wrappers, and context windows, may call it several times. The host's threads for several GPUs pass no
    Stop on.
    """
    options = model.model_options
    wrappers = (model.wrappers, options.get("transformer_options", {}).get("wrappers", {}))
    wrapped = any(found for kinds in wrappers for keys in kinds.values() for found in keys.values())
    several = wrapped or "model_function_wrapper" in options or options.get("context_handler") is not None
    return not (several or model.additional_models.get("multigpu"))


def run_guider(
    guider: CFGGuider,
    samples: torch.Tensor,
    sigmas: Sequence[float],
    function: Callable[[Denoise, torch.Tensor], None],
    denoise_mask: torch.Tensor | None = None,
) -> None:
    """`run_pass` by a guider that nothing else uses: other packs' guidance leaves its options."""
    # It would change this unguided pass, or add model calls to it.
    guider.model_options = {k: v for k, v in guider.model_options.items() if k not in GUIDANCE_FUNCTIONS}
    sampler = comfy.samplers.KSAMPLER(_Pass(function))
    schedule = torch.tensor([*sigmas, 0.0])
    guider.sample(
        torch.zeros_like(samples), samples, sampler, schedule, denoise_mask=denoise_mask, disable_pbar=True, seed=0
    )


class _Pass:
    """A sampler function that calls another function and returns the latent unchanged."""

    def __init__(self, function: Callable[[Denoise, torch.Tensor], None]):
        self._function = function

    @torch.no_grad()
    def __call__(self, model, x, sigmas, extra_args, callback=None, disable=None):
        # The latents are given, so nothing of them is to be kept.
        denoise = _Denoise(model, {**extra_args, "denoise_mask": None}, comfy.utils.ProgressBar(len(sigmas) - 1))
        try:
            # The host has scaled x for the first noise level, which leaves nothing of the picture in a flow model's.
            self._function(denoise, model.latent_image.to(x, non_blocking=True))
        finally:
            denoise.close()
        return x


class _Denoise:
    """A `Denoise` of a running pass. It is no function with cells, which an error's frames would keep alive."""

    def __init__(self, model: Any, arguments: dict, progress: comfy.utils.ProgressBar):
        self._model: Any = model
        self._arguments, self._progress = arguments, progress

    def __call__(self, latents: torch.Tensor, sigma: float) -> torch.Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        try:
            denoised = self._model(latents, latents.new_full([len(latents)], sigma), **self._arguments)
        except Stop:
            denoised = latents
        self._progress.update(1)
        return denoised

    def close(self) -> None:
        """Drops the model."""
        self._model, self._arguments = None, {}


def call_arguments(
    model: BaseModel,
    conditioning: list,
    latents: torch.Tensor,
    conditional: bool,
    inputs: RunInputs | None = None,
) -> dict:
    """The arguments that the host passes to a model call: {"c_crossattn": [rows, tokens, width], "y": ..., ...}.

    latents: [rows, channels, height, width]. inputs: those of the rows' run. By default the rows have no latent
    image and no noise mask: an inpainting model makes all of their picture.
    """
    entries = [
        {**rest, "cross_attn": text, "model_conds": dict(rest.get("model_conds", {}))} for text, rest in conditioning
    ]
    inputs = inputs or RunInputs()
    given = inputs.latent_image
    image = torch.zeros_like(latents) if given is None else given.to(latents, non_blocking=True)
    if given is not None and torch.count_nonzero(given):
        image = model.process_latent_in(image)
    (entry,) = comfy.samplers.encode_model_conds(
        model.extra_conds,
        entries,
        latents,
        latents.device,
        "positive" if conditional else "negative",
        latent_image=image,
        denoise_mask=inputs.denoise_mask,
        seed=inputs.seed,
    )
    rows = len(latents)
    conds = {
        k: c.process_cond(batch_size=rows, device=latents.device, area=None).cond
        for k, c in entry["model_conds"].items()
    }
    return {k: c.to(latents.device, non_blocking=True) if isinstance(c, torch.Tensor) else c for k, c in conds.items()}


def repeats_text(model: BaseModel) -> bool:
    """True for a U-Net: its text may be repeated, which changes nothing in cross-attention.

    Attention that joins text and picture would see more text tokens.
    """
    network = model.diffusion_model
    return isinstance(getattr(network, "_orig_mod", network), UNetModel)


def without_boxes(options: Options) -> Options:
    """The options without GLIGEN's boxes, which belong to the rows of one prompt; the same object without any."""
    patches = options.get("patches", {})
    kept = [patch for patch in patches.get(_BOXES, ()) if getattr(patch, "__module__", "") != "comfy.gligen"]
    if len(kept) == len(patches.get(_BOXES, ())):
        return options
    return {**options, "patches": {**patches, _BOXES: kept}}


def noise_levels(window: Window, count: int, model_sampling: ModelSampling, node: str) -> tuple[float, ...]:
    """Up to `count` falling sigmas, at the centers of `count` equal parts of the window; equal ones are merged.

    Raises ValueError if the window starts after its end.
    """
    start, end = window.start_percent, window.end_percent
    check_order(start, end, node)
    percents = [start + (i + 0.5) * (end - start) / count for i in range(count)]
    low, high = float(model_sampling.sigma_min), float(model_sampling.sigma_max)
    found = {min(max(float(model_sampling.percent_to_sigma(p)), low), high) for p in percents}
    if not all(math.isfinite(sigma) and sigma > 0 for sigma in found):
        raise ValueError(
            f"{node}: expected a model with noise levels above 0, got {high:g} to {low:g}; change the node before it "
            "that sets the model's sampling, such as its shift."
        )
    return tuple(sorted(found, reverse=True))
