"""One guided run: at each guided step, read the network with gradients, score what was read, move the latent."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from comfy.patcher_extension import WrappersMP

from ...kernels.pick_and_draw import RELATIVE, decayed, denoised_shift, step_of_gradient
from ..features.host_memory import sent
from ..host.blocks import Layer
from ..host.family import Options
from ..host.frozen_autograd import gradient
from ..host.frozen_forwards import Forwards
from ..host.rows import conditional_chunks
from ..host.run import KEY, Evaluate, Step
from ..host.window import SAME_LEVEL, SigmaWindow
from .loss_log import LossLog
from .palette import Palette, joined
from .parts import Part, part_of_step
from .reading import Reading
from .settings import NODE, OVER_SAMPLING, GuidanceSettings, Term, Terms
from .template import Template


@dataclass(kw_only=True, eq=False)
class GuidanceRun:
    """The memory of one run; the run's state holds it and forgets it.

    weights: the name of the guided model's identity; sigmas: the schedule; prompts: the uuids of the guided prompts;
    mask: inpainting mask, 1 where the latent may change, broadcasts over the latent; earlier: the noise levels of the
    runs that this one continues.
    """

    settings: GuidanceSettings
    palette: Palette | None
    template: Template | None
    log: LossLog
    weights: str
    sigmas: Sequence[float]
    model_sampling: Any
    prompts: frozenset
    mask: torch.Tensor | None = None
    earlier: tuple[float, ...] = ()
    moves: int = 0
    """Number of latents that were moved."""
    _palette: tuple[float, dict[Layer, tuple[torch.Tensor, torch.Tensor | None]]] | None = None
    _weights: dict[tuple, torch.Tensor] = field(default_factory=dict)
    """Weights of a palette's tokens, as in `joined`."""
    _template: tuple[float, dict[Layer, torch.Tensor]] | None = None
    _latest: dict[Part, _Moved] = field(default_factory=dict)
    _windows: dict[Term, SigmaWindow] = field(default_factory=dict)
    _one_by_one: bool = False
    """Set once the guider evaluates other conditionings in a call before the guided one."""
    _needs: dict[str, Any] = field(default_factory=lambda: {"checkpointed": False, "mutable": False, "mixed": False})
    """Arguments of `gradient` that an earlier gradient of the run has turned out to need."""
    _forwards: Forwards = field(default_factory=Forwards)

    def __post_init__(self):
        terms, appearance = self.settings.terms, self.settings.terms.appearance
        self._windows = {term: term.window.resolve(self.model_sampling) for term in terms.present}
        steps = (*self.earlier, *self.sigmas[:-1])
        inside = [(i, s) for i, s in enumerate(steps) if any(self.acts(term, s) for term in terms.present)]
        counted = inside[:: self.settings.every]
        self.levels: tuple[float, ...] = tuple(s for i, s in counted if i >= len(self.earlier))
        """The schedule's guided noise levels."""
        self.palette_levels = tuple(s for s in self.levels if appearance is not None and self.acts(appearance, s))
        """The guided noise levels at which the appearance term acts."""
        self._sizes = {s: self._size(s) for s in self.levels}

    def _size(self, sigma: float) -> float:
        """The step size at a noise level."""
        settings, over = self.settings, self._progress(sigma)
        if settings.decay_over == OVER_SAMPLING:
            return decayed(settings.step_size, settings.decay, over)
        window = settings.terms.window
        over = (over - window.start_percent) / (window.end_percent - window.start_percent)
        return decayed(settings.step_size, settings.decay, min(max(over, 0.0), 1.0), root=False)

    def _progress(self, sigma: float) -> float:
        """The part of sampling that is over at a noise level, 0 to 1, also where the run is a part of a longer one."""
        if self.settings.decay == 1:
            return 0.0
        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (middle, high) if float(self.model_sampling.percent_to_sigma(middle)) > sigma else (low, middle)
        return low

    def acts(self, term: Term, sigma: float) -> bool:
        """Tells whether a loss acts at a noise level."""
        return self._windows[term].contains(sigma)

    def idle(self) -> list[str]:
        """The losses that act at none of the guided noise levels."""
        return [
            name
            for name, term in self.settings.terms._asdict().items()
            if term is not None and not any(self.acts(term, s) for s in self.levels)
        ]

    def guides(self, sigma: float) -> bool:
        """Tells whether the step that a model call belongs to is guided.

        A sampler's calls between two levels belong to the step that begins at the higher one.
        """
        return self.level_of(sigma) in self.levels

    def level_of(self, sigma: float) -> float:
        """The schedule's noise level that begins the step of a model call."""
        return min((s for s in self.sigmas if s >= sigma / SAME_LEVEL), default=sigma)

    def shift(self, step: Step, moved: torch.Tensor) -> torch.Tensor:
        """The correction of the denoised latent for a moved one, of its shape.

        A call between two levels, as samplers of higher order make, counts with the whole step. From its own level the
        rest of the step may be almost nothing, and the shift would have no bound.
        """
        level = self.level_of(step.sigma)
        following = max((s for s in self.sigmas if s < level / SAME_LEVEL), default=0.0)
        return denoised_shift(step.x - moved, level, following)

    def is_side_evaluation(self, step: Step) -> bool:
        """True for a call without the guided prompt on another latent, as SelfAttentionGuidance's blurred one.

        Its result is compared with one that is already guided.
        """
        if self._own(step):
            return False
        latest = self._latest.get(self._part(step))
        if latest is None or latest.sigma != step.sigma:
            self._one_by_one = True
        return not self._one_by_one and latest is not None and not latest.came_from(step.x)

    def _part(self, step: Step) -> Part:
        return part_of_step(step.shown, step.options["transformer_options"], NODE)

    def moved(self, step: Step, evaluate: Evaluate) -> torch.Tensor:
        """The guided latent, of the shape of the step's; computed once per latent."""
        part = self._part(step)
        latest = self._latest.get(part)
        if latest is not None and latest.sigma == step.sigma and latest.came_from(step.x):
            return latest.after
        settings, latent, terms = self.settings, step.x, self.acting(step.sigma)
        size = self._sizes[self.level_of(step.sigma)]
        if settings.step == RELATIVE:
            # A relative step normalizes the gradient, so the weights must scale the step instead.
            size *= max(term.weight for term in terms.present)
        # The layout loss can reach 0. The appearance loss does so for the reference itself only.
        ends = terms.appearance is None
        for _ in range(settings.iterations):
            found, losses, cover = self._gradient(replace(step, x=latent), evaluate, part)
            finite = (found.isfinite().flatten(1).all(1) & losses.isfinite()).view(-1, *[1] * (latent.ndim - 1))
            self.log.note_finite(finite)
            found = torch.where(finite, found, 0)
            free = latent
            if self.mask is not None:
                # Inpainting keeps the rest, whose norm must not lengthen the step of the free part.
                self.mask = sent(self.mask, latent)
                mask = part.cut(self.mask)
                found, free = found * mask, free * mask
            if cover is not None:
                free = free * cover
            loss = losses if ends else None
            shift = step_of_gradient(free, found, step.sigma, size, kind=settings.step, loss=loss)
            latent = latent - shift.to(latent.dtype)
        self.log.note_shift(latent - step.x, step.x)
        self._latest[part] = _Moved(step.sigma, step.x, latent)
        self.moves += 1
        return latent

    def _gradient(
        self, step: Step, evaluate: Evaluate, whole: Part
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The score's gradient with respect to the latents, from the guided prompts alone, and the scores, [images].

        Also 1 where any of the prompts acts, 0 elsewhere, None if all act everywhere.
        """
        total, score = torch.zeros_like(step.x, dtype=torch.float32), step.x.new_zeros(len(step.x), dtype=torch.float32)
        entries, losses, cover = self._prompts(step), [], None
        for entry in entries:
            part = whole.of_entry(entry, NODE)
            if part is not whole:
                cover = part.cover(step.x) if cover is None else torch.maximum(cover, part.cover(step.x))
            reading = Reading(
                self.settings,
                self.acting(step.sigma),
                part,
                entry.get("cross_attn"),
                palette=functools.partial(self.palette_of, step.sigma),
                template=functools.partial(self.template_of, step.sigma, part),
                draws=self.log.draws,
            )
            options = {**step.options, "transformer_options": _without_ours(step.options["transformer_options"])}

            def run(model, conds, x, t, model_options, step=step, reading=reading):
                with reading.forward_pass():
                    return evaluate(replace(step, model=model, conditions=conds, x=x, t=t, options=model_options))

            found = gradient(
                model=step.model,
                conds=[entry],
                x=step.x,
                timestep=step.t,
                model_options=options,
                loss=reading.score,
                node=NODE,
                tap=reading.tapped,
                run=run,
                forwards=self._forwards,
                **self._needs,
            )
            assert found is not None
            self._needs = {"checkpointed": found.checkpointed, "mutable": found.mutable, "mixed": found.mixed}
            total = total + found.latents / len(entries)
            score = score + found.losses / len(entries)
            losses.append(reading.losses)
            self.log.note_maps(reading.salient, reading.heat)
        if losses:
            appearance, layout = (
                None if each[0] is None else torch.stack(each).mean(0) for each in zip(*losses, strict=True)
            )
            self.log.note(step.sigma, appearance, layout, whole.images)
        if any(entry.get("area") is None for entry in entries):
            cover = None
        return total, score, cover

    def _prompts(self, step: Step) -> list:
        """The entries of the step's conditionings that carry a guided prompt; the guider's where this call has none."""
        found = [entry for entry in self._own(step) or step.state.prompts() if _in_time(entry, step.sigma)]
        return [entry for entry in found if entry.get("uuid") in self.prompts]

    def _own(self, step: Step) -> list:
        """The entries in this call that stand on the prompt's side of classifier-free guidance."""
        known = [(i, entries) for i, entries in enumerate(step.conditions) if entries]
        flags = conditional_chunks(
            [i for i, _ in known], [entries[0].get("uuid") for _, entries in known], step.state.owners()
        )
        return [entry for (_, entries), flag in zip(known, flags, strict=True) if flag for entry in entries]

    def palette_of(self, sigma: float, layer: Layer, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """All references' features at the guided level nearest to sigma, [tokens, channels], in the type of `like`.

        Also their weights, [tokens], None where all are equal.
        """
        assert self.palette is not None and self.settings.terms.appearance is not None
        level = min(self.palette_levels, key=lambda s: abs(s - sigma))
        if self._palette is None or self._palette[0] != level:
            layers = self.settings.terms.appearance.layers
            features = {la: self.palette.features(self.weights, la, level) for la in layers}
            self._palette = (level, {la: joined(parts, like, self._weights) for la, parts in features.items()})
        return self._palette[1][layer]

    def template_of(self, sigma: float, part: Part, layer: Layer, found: torch.Tensor) -> torch.Tensor:
        """The template's map of a layer at a noise level, of the size and type of `found`, [images, height, width]."""
        assert self.template is not None and self.settings.terms.layout is not None
        if self._template is None or self._template[0] != sigma:
            maps = {la: self.template.at(la, sigma) for la in self.settings.terms.layout.layers}
            self._template = (sigma, {la: sent(wanted, found) for la, wanted in maps.items()})
        return self.template.fitted(self._template[1][layer], found, part)

    def acting(self, sigma: float) -> Terms:
        """The terms that act at a noise level."""
        level = self.level_of(sigma)
        return Terms(*(t if t is not None and self.acts(t, level) else None for t in self.settings.terms))


class _Moved(NamedTuple):
    """A guided latent: the noise level, the latents before and after."""

    sigma: float
    before: torch.Tensor
    after: torch.Tensor

    def came_from(self, latent: torch.Tensor) -> bool:
        """True where `latent` is the one before; context windows are copies of their part of it."""
        before = self.before
        return before is latent or (before.shape == latent.shape and torch.equal(before, latent))


def _in_time(entry: dict, sigma: float) -> bool:
    """Tells whether the host uses a conditioning at a noise level, by the host's own rule."""
    return entry.get("timestep_end", sigma) <= sigma <= entry.get("timestep_start", sigma)


def _without_ours(options: Options) -> Options:
    """The call's options without the pack's other patches, which have rows of their own in a call."""
    wrappers = options.get("wrappers", {})
    calls = {key: value for key, value in wrappers.get(WrappersMP.APPLY_MODEL, {}).items() if key != KEY}
    return {**options, "wrappers": {**wrappers, WrappersMP.APPLY_MODEL: calls}}
