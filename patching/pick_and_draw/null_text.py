"""Null-text inversion of a reference: unconditional embeddings with which guided sampling follows its inversion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from ...kernels.diffusion import ddim_step
from ...kernels.null_text import STEPS, guided, learning_rate, pivot_distance, reached
from ..features.host_memory import sent
from ..features.references import Reference
from ..features.sources import Inverted
from ..host.attach import attach
from ..host.checks import image_latent
from ..host.dit_grad import with_rotation
from ..host.frozen_autograd import differentiable, frozen_autograd
from ..host.frozen_forwards import Forwards
from ..host.frozen_refusals import refuse_cached, refuse_compiled
from ..host.passes import Denoise, call_arguments, run_pass
from ..host.run import Call, Forward
from ..host.window import ALWAYS, Window

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NULL_TEXT = "null_text"
SCALE = 7.5
"""Guidance scale of the paper's experiments (arXiv 2211.09794, section 4)."""


@dataclass(eq=False)
class _OtherText:
    """A patch that gives the model another text than the prompt's."""

    node: str
    network: torch.nn.Module
    window: Window = ALWAYS
    forwards: Forwards = field(default_factory=Forwards)
    _text: torch.Tensor | None = None
    _rest: dict = field(default_factory=dict)

    def use(self, text: torch.Tensor | None, rest: dict | None = None) -> None:
        """Takes a text [1, tokens, width] with the other arguments of its model calls, or the prompt again."""
        self._text, self._rest = text, rest or {}

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        if self._text is None:
            return forward(call)
        arguments = {**call.arguments, **self._rest, "c_crossattn": self._text}
        options = differentiable(call.options)
        options = with_rotation(options) if self.forwards.rotating(self.network) else options
        return forward(replace(call, arguments=arguments, options=options))


def null_text(
    model: ModelPatcher,
    reference: Reference,
    empty: list,
    pivots: Inverted,
    node: str,
    *,
    steps: int = STEPS,
    scale: float = SCALE,
) -> Inverted:
    """Null-text inversion of a reference (Pick-and-Draw, arXiv 2401.16762, after arXiv 2211.09794).

    Guided sampling with the embeddings that it finds follows the inversion's latents down to the picture.

    empty: CONDITIONING of the empty prompt, where the embeddings start. pivots: the inversion. steps: most gradient
    steps per level; each costs a model call and its gradient. Raises ValueError for a model without a gradient.
    """
    refuse_compiled(model, node)
    refuse_cached(model, node)
    text, levels, count = _OtherText(node, model.model.diffusion_model), pivots.sigmas, len(pivots.sigmas) - 1
    found: list[torch.Tensor] = []

    def descend(denoise: Denoise, clean: torch.Tensor) -> None:
        given = call_arguments(model.model, empty, clean, conditional=False)
        embedding = _ordinary(given.pop("c_crossattn").float())
        x = sent(pivots.latents[-1], clean)
        found.append(x.cpu())
        for i in range(count):
            high, low = levels[-1 - i], levels[-2 - i]
            text.use(None)
            level = _Level(x, high, low, denoise(x, high), sent(pivots.latents[-2 - i], clean), scale)
            with torch.inference_mode(False):
                embedding = embedding.clone().requires_grad_()
                optimizer = torch.optim.Adam([embedding], lr=learning_rate(i, count))
                for _ in range(steps):
                    with frozen_autograd(text.network, forwards=text.forwards):
                        text.use(embedding.to(x.dtype), given)
                        loss = level.distance(denoise(x, high))
                        (embedding.grad,) = torch.autograd.grad(loss, embedding)
                    optimizer.step()
                    if reached(float(loss.detach()), i, count):
                        break
                embedding = embedding.detach()
            text.use(embedding.to(x.dtype), given)
            x = level.below(denoise(x, high))
            found.append(x.cpu())

    latent = image_latent(model, reference.latent, node)
    schedule = [level for level in reversed(levels[1:]) for _ in range(steps + 2)]
    run_pass(attach(model, text), reference.conditioning, latent, schedule, descend)
    return Inverted(levels, tuple(reversed(found)), pivots.steps)


class _Level(NamedTuple):
    """One step down from noise level `high` to `low`: the latent, its denoised form with the prompt, and the pivot."""

    x: torch.Tensor
    high: float
    low: float
    conditional: torch.Tensor
    pivot: torch.Tensor
    scale: float

    def below(self, unconditional: torch.Tensor) -> torch.Tensor:
        return ddim_step(self.x, guided(unconditional, self.conditional, self.scale), self.high, self.low)

    def distance(self, unconditional: torch.Tensor) -> torch.Tensor:
        return pivot_distance(self.below(unconditional), self.pivot, self.low)


def _ordinary(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that may require gradients, which the host's inference tensors may not."""
    with torch.inference_mode(False):
        return tensor.clone()
