"""What one guided run does at a step: read the network with gradients, score what was read, move the latent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import WrappersMP

from ...kernels.pick_and_draw import RELATIVE, denoised_shift, step_of_gradient
from ..host.blocks import Layer
from ..host.family import Options
from ..host.frozen_autograd import gradient
from ..host.rows import conditional_chunks
from ..host.run import KEY, Evaluate, Step
from ..host.window import SAME_LEVEL, SigmaWindow, Window
from .reading import Reading

if TYPE_CHECKING:
    from .guidance import UREMDGuidance


@dataclass(frozen=True)
class Term:
    """One loss of the score function: its weight, when it acts, and the layers that it reads."""

    weight: float
    window: Window
    layers: tuple[Layer, ...]


@dataclass(eq=False)
class GuidanceRun:
    """What one run remembers; the run's state holds it and forgets it."""

    patch: UREMDGuidance
    images: int
    weights: str
    sigmas: Sequence[float]
    model_sampling: Any
    prompts: frozenset
    """The uuids of the prompts that are guided."""
    mask: torch.Tensor | None = None
    """Of inpainting, 1 where the latent may change; broadcasts over it."""
    _palette: tuple[float, dict[Layer, tuple[torch.Tensor, torch.Tensor | None]]] | None = None
    _template: tuple[float, dict[Layer, torch.Tensor]] | None = None
    _latest: tuple[float, torch.Tensor, torch.Tensor] | None = None
    _windows: dict[Term, SigmaWindow] = field(default_factory=dict)
    _apart: bool = False
    """Whether the host's guider evaluates other conditionings before the guided one."""
    _short: bool = False
    """Whether a gradient of this run has found too little memory to keep its activations."""

    def __post_init__(self):
        patch = self.patch
        terms = [term for term in (patch.appearance, patch.layout) if term is not None]
        self._windows = {term: term.window.resolve(self.model_sampling) for term in terms}
        inside = [s for s in self.sigmas[:-1] if any(self._acts(term, s) for term in terms)]
        self.levels: tuple[float, ...] = tuple(inside[:: patch.every])
        """The noise levels of the schedule that are guided."""
        self.palette_levels = tuple(
            s for s in self.levels if patch.appearance is not None and self._acts(patch.appearance, s)
        )

    def _acts(self, term: Term, sigma: float) -> bool:
        return self._windows[term].contains(sigma)

    def idle(self) -> list[str]:
        """The losses that act at none of the guided noise levels."""
        named = {"appearance": self.patch.appearance, "layout": self.patch.layout}
        return [
            name
            for name, term in named.items()
            if term is not None and not any(self._acts(term, s) for s in self.levels)
        ]

    def guides(self, sigma: float) -> bool:
        """Whether the step of the schedule that a model call belongs to is guided: a sampler's calls between two levels
        go with the higher one."""
        return self.level_of(sigma) in self.levels

    def level_of(self, sigma: float) -> float:
        """The schedule's noise level that begins the step of a model call."""
        return min((s for s in self.sigmas if s >= sigma / SAME_LEVEL), default=sigma)

    def shift(self, step: Step, moved: torch.Tensor) -> torch.Tensor:
        """What to add to the denoised latent for a latent that was moved. A call between two levels, as of samplers of
        higher order, counts with the whole step: from its own level the rest of the step may be next to nothing, and
        the shift without bounds."""
        level = self.level_of(step.sigma)
        following = max((s for s in self.sigmas if s < level / SAME_LEVEL), default=0.0)
        return denoised_shift(step.x - moved, level, following)

    def is_beside(self, step: Step) -> bool:
        """Whether a call is about another latent than the step's own, and without the guided prompt, as
        SelfAttentionGuidance's about a blurred one: what that is compared with is guided already."""
        if self._own(step):
            return False
        if self._latest is None or self._latest[0] != step.sigma:
            self._apart = True
        return not self._apart and self._latest is not None and self._latest[1] is not step.x

    def moved(self, step: Step, evaluate: Evaluate) -> torch.Tensor:
        """The guided latent; computed once for a latent, however often the host asks."""
        if self._latest is not None and self._latest[0] == step.sigma and self._latest[1] is step.x:
            return self._latest[2]
        patch, latent = self.patch, step.x
        size = patch.step_size
        if patch.step_kind == RELATIVE:
            # A relative step forgets how long the gradient is; the weights still say how far it goes.
            size *= max(term.weight for term in self.acting(step.sigma) if term is not None)
        # A template can be followed to the end; no picture but the reference itself has an appearance loss of 0.
        ends = self.acting(step.sigma)[0] is None
        for _ in range(patch.iterations):
            found, losses = self._gradient(replace(step, x=latent), evaluate)
            # A gradient that is no number moves nothing.
            finite = (found.isfinite().flatten(1).all(1) & losses.isfinite()).view(-1, 1, 1, 1)
            patch.log.note_finite(finite)
            found = torch.where(finite, found, 0)
            free = latent
            if (
                self.mask is not None
            ):  # what inpainting keeps cannot be moved, and does not count for how far the rest is
                mask = self.mask.to(latent)
                found, free = found * mask, latent * mask
            loss = losses if ends else None
            latent = latent - step_of_gradient(free, found, step.sigma, size, patch.step_kind, loss).to(latent)
        self._latest = (step.sigma, step.x, latent)
        return latent

    def _gradient(self, step: Step, evaluate: Evaluate) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the score function with respect to the latents, read from the prompt's rows alone, and its values,
        [images]."""
        total, score = torch.zeros_like(step.x, dtype=torch.float32), step.x.new_zeros(len(step.x), dtype=torch.float32)
        entries, losses = self._prompts(step), []
        for entry in entries:
            reading = Reading(self, step.sigma)
            options = {
                **step.options,
                "transformer_options": reading.tapped(_without_ours(step.options["transformer_options"])),
            }

            def run(model, conds, x, t, model_options, step=step, reading=reading):
                with reading.anew():
                    return evaluate(replace(step, model=model, conditions=conds, x=x, t=t, options=model_options))

            found = gradient(
                step.model,
                [entry],
                step.x,
                step.t,
                options,
                reading.score,
                self.patch.node,
                run=run,
                checkpointed=self._short,
            )
            assert found is not None
            self._short |= found.checkpointed
            total = total + found.latents / len(entries)
            score = score + found.losses / len(entries)
            losses.append(reading.losses)
        if losses:
            appearance, layout = (
                None if each[0] is None else torch.stack(each).mean(0) for each in zip(*losses, strict=True)
            )
            self.patch.log.note(step.sigma, appearance, layout)
        return total, score

    def _prompts(self, step: Step) -> list:
        """The entries of the step's conditionings that carry the prompt; of the guider's, where this call has none of
        them."""
        found = [entry for entry in self._own(step) or step.state.prompts() if _in_time(entry, step.sigma)]
        return [entry for entry in found if entry.get("uuid") in self.prompts]

    def _own(self, step: Step) -> list:
        """The entries of the prompt's side of guidance that a call has."""
        known = [(i, entries) for i, entries in enumerate(step.conditions) if entries]
        flags = conditional_chunks(
            [i for i, _ in known], [entries[0].get("uuid") for _, entries in known], step.state.owners()
        )
        return [entry for (_, entries), flag in zip(known, flags, strict=True) if flag for entry in entries]

    def palette_of(self, layer: Layer, sigma: float, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[tokens, channels] of all references at the guided level nearest to sigma, and [tokens] their weights, None
        where all are equal; on the device of `like`."""
        assert self.patch.palette is not None and self.patch.appearance is not None
        level = min(self.palette_levels, key=lambda s: abs(s - sigma))
        if self._palette is None or self._palette[0] != level:
            layers = self.patch.appearance.layers
            features = {la: self.patch.palette.features(self.weights, la, level) for la in layers}
            self._palette = (level, {la: _joined(parts, like) for la, parts in features.items()})
        return self._palette[1][layer]

    def template_of(self, layer: Layer, sigma: float, like: torch.Tensor) -> torch.Tensor:
        """The template's map of a layer at a noise level, in the type and on the device of `like`: [images, height,
        width]."""
        assert self.patch.template is not None and self.patch.layout is not None
        if self._template is None or self._template[0] != sigma:
            maps = {la: self.patch.template.at(la, sigma) for la in self.patch.layout.layers}
            self._template = (sigma, {la: there.to(like, non_blocking=True) for la, there in maps.items()})
        return self._template[1][layer]

    def acting(self, sigma: float) -> tuple[Term | None, Term | None]:
        """The appearance and the layout term at a noise level, None where it does not act."""
        patch = self.patch
        level = self.level_of(sigma)
        appearance, layout = (
            t if t is not None and self._acts(t, level) else None for t in (patch.appearance, patch.layout)
        )
        return appearance, layout


def _in_time(entry: dict, sigma: float) -> bool:
    """Whether the host uses a conditioning at a noise level, as it decides itself."""
    return entry.get("timestep_end", sigma) <= sigma <= entry.get("timestep_start", sigma)


def _joined(
    parts: Sequence[tuple[torch.Tensor, float]], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tokens of several references and their weights as those of one."""
    tokens = torch.cat([features.to(like) for features, _ in parts])
    if len({weight for _, weight in parts}) == 1:
        return tokens, None
    return tokens, torch.cat([torch.full((len(features),), weight) for features, weight in parts]).to(like.device)


def _without_ours(options: Options) -> Options:
    """The call's options without the pack's other patches, which have rows of their own in a call."""
    wrappers = options.get("wrappers", {})
    calls = {key: value for key, value in wrappers.get(WrappersMP.APPLY_MODEL, {}).items() if key != KEY}
    return {**options, "wrappers": {**wrappers, WrappersMP.APPLY_MODEL: calls}}
