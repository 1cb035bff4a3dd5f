"""Model passes of our own, outside any sampler, through ComfyUI's guider: it loads weights, applies LoRA and hooks, and cleans up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch

Denoise = Callable[[torch.Tensor, float], torch.Tensor]
"""(latents [batch, channels, height, width] at a noise level, sigma) -> denoised latents, with the prompt only."""


def run_pass(model, conditioning: list, samples: torch.Tensor, sigmas: Sequence[float], function: Callable[[Denoise, torch.Tensor], None]):
    """Calls function(denoise, clean) once, where clean is `samples` in the model's latent space, on its device.

    conditioning: CONDITIONING; samples: a LATENT's, [batch, channels, height, width]. sigmas: the noise levels that will be asked
    for, in order; they are the run's schedule and the steps of its progress bar. Results are what `function` keeps.
    """
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning})
    sampler = comfy.samplers.KSAMPLER(_Pass(function))
    guider.sample(torch.zeros_like(samples), samples, sampler, torch.tensor([*sigmas, 0.0]), disable_pbar=True, seed=0)


class _Pass:
    """A sampler function that leaves the latent as it is."""

    def __init__(self, function: Callable[[Denoise, torch.Tensor], None]):
        self._function = function

    @torch.no_grad()
    def __call__(self, model, x, sigmas, extra_args, callback=None, disable=None):
        progress = comfy.utils.ProgressBar(len(sigmas) - 1)

        def denoise(latents: torch.Tensor, sigma: float) -> torch.Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            denoised = model(latents, latents.new_full([len(latents)], sigma), **extra_args)
            progress.update(1)
            return denoised

        self._function(denoise, x)
        return x
