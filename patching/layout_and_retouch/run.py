"""What one run of Layout-and-Retouch's second stage knows of its layout and its references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ..features.bank import HIDDEN, OUTPUT, FeatureBank, Key, digest_of
from ..features.references import Reference, model_arguments
from ..features.source_rows import SourceRows, aligned, calls_of
from ..features.sources import Source
from ..features.trajectory import Trajectory
from ..host.blocks import Layer
from ..host.rows import indices, take
from ..host.run import Call, Forward
from ..host.tokens import Tokens
from ..host.window import SAME_LEVEL
from .subject_mask import MaskRun
from .swaps import Borrowed, RecordedLayout

if TYPE_CHECKING:
    from .retouch import Retouch

LAYOUT = "layout"
BATCHED, SEQUENTIAL, BANKED = "batched", "sequential", "banked"


def reference_role(i: int) -> str:
    return f"reference{i}"


def prompts_of(layout: Trajectory | Reference, negative: list | None) -> tuple[list, list]:
    """A layout's CONDITIONING with and without its prompt; `negative` is for a picture, which has none of its own."""
    if isinstance(layout, Trajectory):
        return layout.positive, layout.negative
    return layout.conditioning, layout.conditioning if negative is None else negative


@dataclass(eq=False)
class RetouchRun:
    """What one run of a Retouch remembers; the run's state holds it and forgets it."""

    patch: Retouch
    weights: str
    images: int
    size: tuple[int, int]
    levels: tuple[float, ...]
    layout_source: Source | None = None
    sources: list[Source] = field(default_factory=list)
    negative: list | None = None
    """The run's own negative prompt, which references are lent: they have none."""
    mask: MaskRun | None = None
    _arguments: dict = field(default_factory=dict)
    _latest: dict = field(default_factory=dict)
    _tokens: dict = field(default_factory=dict)
    _digest: str = ""

    def late(self, sigma: float) -> bool:
        """From lambda_2 on."""
        return self._reached(sigma, self.patch.early_steps)

    def blends(self, sigma: float) -> bool:
        """From lambda_3 on."""
        return self._reached(sigma, self.patch.blend_step)

    def blends_after(self, sigma: float) -> bool:
        """Whether the maps of a call at this level are those of the step before a blended one."""
        blend_step = self.patch.blend_step
        return blend_step < len(self.levels) and self._reached(sigma, max(0, blend_step - 1))

    def _reached(self, sigma: float, step: int) -> bool:
        return step < len(self.levels) and sigma <= self.levels[step] * SAME_LEVEL

    def start_mask(self, call: Call) -> None:
        assert self.patch.mask is not None
        self.mask = MaskRun(self.patch.mask, self.size, call.x.device)

    def layout_denoised(self, call: Call) -> torch.Tensor:
        """What a sampler must be told to walk along the layout's latents."""
        source, sigma = self.layout_source, call.sigma
        if isinstance(source, Trajectory):
            return source.denoised_at(sigma)
        assert source is not None
        # Some samplers also call between two steps: there, too, the way is straight from one to the other.
        above = min((s for s in self.levels if s >= sigma / SAME_LEVEL), default=sigma)
        below = max((s for s in (*self.levels, 0.0) if s < sigma / SAME_LEVEL), default=0.0)
        start, end = source.at(above), source.at(below)
        return end - below * (start - end) / (above - below)

    def layout_rows(self, call: Call, flags: tuple[bool, ...]) -> list[SourceRows]:
        assert self.layout_source is not None
        latents = self.layout_source.at(call.sigma).to(call.x)
        return [
            SourceRows(LAYOUT, flag, latents, self._arguments_of(call, LAYOUT, flag, latents))
            for flag in dict.fromkeys(flags)
        ]

    def layout_inputs(
        self, call: Call, forward: Forward, sources: list[SourceRows], layers: Sequence[Layer], cross: bool
    ) -> RecordedLayout:
        """What the layout gives its attention at this noise level, by calls of its own, aligned with the target's rows."""
        family = self.patch.family
        order = aligned(call, sources, self.images, [len(s.latents) for s in sources])
        hidden: dict[Layer, list[torch.Tensor]] = {}
        crossed: dict[Layer, list[tuple[torch.Tensor, torch.Tensor]]] = {}

        def note_cross(layer, n, context, value):
            crossed.setdefault(layer, []).append((n, context))
            return n, context, value

        for part in calls_of(call, sources):
            options = family.tap_hidden_states(
                part.options, layers, lambda layer, n, _: hidden.setdefault(layer, []).append(n)
            )
            options = family.change_cross_attention(options, layers, note_cross) if cross else options
            forward(replace(part, options=options))
        return RecordedLayout(
            {layer: take(torch.cat(parts), order) for layer, parts in hidden.items()},
            {
                layer: (
                    take(torch.cat([n for n, _ in parts]), order),
                    take(torch.cat([text for _, text in parts]), order),
                )
                for layer, parts in crossed.items()
            },
        )

    def sides(self, flags: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which sides of guidance a reference has to be run for."""
        return tuple(dict.fromkeys(self.side(flag) for flag in flags))

    def side(self, flag: bool) -> bool:
        """The side of a reference that a side of the target looks at: its own (MasaCtrl, arXiv 2304.08465), where there
        is one."""
        return flag or self.negative is None

    def reference_rows(self, call: Call, i: int, sides: tuple[bool, ...]) -> list[SourceRows]:
        """The rows of one reference."""
        role, latents = reference_role(i), self.sources[i].at(call.sigma).to(call.x)
        return [SourceRows(role, side, latents, self._arguments_of(call, role, side, latents)) for side in sides]

    def _arguments_of(self, call: Call, role: str, conditional: bool, latents: torch.Tensor) -> dict:
        key = (role, conditional, call.x.device)
        if key not in self._arguments:
            self._arguments[key] = model_arguments(call.model, self._conditioning(role, conditional), latents)
        return self._arguments[key]

    def _conditioning(self, role: str, conditional: bool) -> list:
        patch = self.patch
        if role == LAYOUT:
            assert patch.layout is not None
            positive, negative = prompts_of(patch.layout, patch.layout_negative)
            return positive if conditional else negative
        if not conditional:
            assert self.negative is not None
            return self.negative
        assert patch.references is not None
        return patch.references.items[int(role.removeprefix("reference"))].conditioning

    def tokens_on(self, reference: Reference, device: torch.device):
        """Indices of a reference's masked tokens by layer size, on the device, made once."""

        def tokens(size: tuple[int, int]) -> torch.Tensor | None:
            key = (reference, size, device)
            if key not in self._tokens:
                chosen = reference.tokens(size)
                self._tokens[key] = None if chosen is None else chosen.to(device)
            return self._tokens[key]

        return tokens

    def borrowed(
        self, call: Call, forward: Forward, layers: Sequence[Layer], flags: tuple[bool, ...]
    ) -> tuple[Borrowed, ...]:
        """Every reference's features at this noise level for the target's rows: from its bank, from the call before at
        the same level, or by a call now."""
        patch, sides = self.patch, self.sides(flags)
        found = []
        for i, reference in enumerate(patch.references.items if patch.references else ()):
            role = reference_role(i)
            known = {side: self._known(call, role, side, layers, HIDDEN, reference.bank) for side in sides}
            parts = {side: features for side, features in known.items() if features is not None}
            if missing := tuple(side for side in sides if side not in parts):
                rows = self.reference_rows(call, i, missing)
                made = self._record(call, forward, layers, rows, HIDDEN, self.tokens_on(reference, call.x.device))
                for side, features in made.items():
                    self._keep(call, role, side, features, HIDDEN, reference.bank)
                parts |= made
            found.append(
                Borrowed(reference.weight, {layer: self._spread(call, parts, layer, flags) for layer in layers})
            )
        return tuple(found)

    def _spread(
        self, call: Call, parts: dict[bool, dict[Layer, torch.Tensor]], layer: Layer, flags: tuple[bool, ...]
    ) -> torch.Tensor:
        """[1 or targets, tokens, channels]: one row for all where all look at the same side."""
        if len(parts) == 1:
            (only,) = parts.values()
            return only[layer].to(call.x.device)
        return torch.cat(
            [parts[self.side(flag)][layer].to(call.x.device).expand(self.images, -1, -1) for flag in flags]
        )

    def layout_outputs(
        self, call: Call, forward: Forward, layers: Sequence[Layer], flags: tuple[bool, ...]
    ) -> dict[Layer, torch.Tensor]:
        """The layout's self-attention outputs for the target's rows."""
        patch = self.patch
        layout = patch.layout
        assert layout is not None
        parts: dict[bool, dict[Layer, torch.Tensor]] = {}
        missing = []
        for flag in dict.fromkeys(flags):
            known = self._known(call, LAYOUT, flag, layers, OUTPUT, layout.bank)
            if known is None:
                missing.append(flag)
            else:
                parts[flag] = known
        if missing:
            if self.of_vanilla(call.sigma):
                self.refuse_vanilla(call.sigma)
            made = self._record(call, forward, layers, self.layout_rows(call, tuple(missing)), OUTPUT)
            for flag in missing:
                parts[flag] = made[flag]
                self._keep(call, LAYOUT, flag, made[flag], OUTPUT, layout.bank)
        return {
            layer: torch.cat([parts[flag][layer].to(call.x.device).expand(self.images, -1, -1) for flag in flags])
            for layer in layers
        }

    def _record(
        self, call: Call, forward: Forward, layers, sources: list[SourceRows], kind: str, tokens=None
    ) -> dict[bool, dict]:
        """Runs rows of one role and reads their features: {conditional: {layer: [images, tokens, channels]}}."""
        made: dict[bool, dict[Layer, torch.Tensor]] = {s.conditional: {} for s in sources}
        family = self.patch.family
        for part in calls_of(call, sources):

            def read(layer: Layer, values: torch.Tensor, seen: Tokens, part=part) -> None:
                chosen = tokens(seen.size) if tokens else None
                for conditional in made:
                    rows = indices(part.rows, None, conditional)
                    if rows:
                        picked = take(values, rows)
                        made[conditional][layer] = picked if chosen is None else picked[:, chosen]

            tap = family.tap_hidden_states if kind == HIDDEN else family.tap_self_attention_output
            forward(replace(part, options=tap(part.options, layers, read)))
        return made

    def of_vanilla(self, sigma: float) -> bool:
        """Whether the layout's run called the vanilla model at this level, whose answers can be read here and not made
        anew."""
        layout = self.patch.layout
        return isinstance(layout, Trajectory) and sigma > layout.switch_sigma

    def refuse_vanilla(self, sigma: float) -> None:
        """Raises ValueError for features that only the vanilla model could make."""
        raise ValueError(
            f"{self.patch.node}: expected the layout's features from lambda_3 {self.patch.blend_step} on, got none of "
            f"the vanilla model's steps (sigma {sigma:.4f}); raise lambda_3 to the layout's switch_step, or write the "
            "same blocks into its record_blocks."
        )

    def layout_is_known(self, sigma: float, layers: Sequence[Layer], flag: bool) -> bool:
        """Whether the layout's outputs at a noise level are in its bank, so that its rows need not be run."""
        layout = self.patch.layout
        return layout is not None and self._banked(sigma, flag, layers, OUTPUT, layout.bank) is not None

    def _known(
        self, call: Call, role: str, flag: bool, layers, kind: str, bank: FeatureBank
    ) -> dict[Layer, torch.Tensor] | None:
        latest = self._latest.get((role, flag, call.x.device))
        if latest is not None and latest[0] == call.sigma:
            return latest[1]
        return self._banked(call.sigma, flag, layers, kind, bank)

    def _banked(
        self, sigma: float, flag: bool, layers, kind: str, bank: FeatureBank
    ) -> dict[Layer, torch.Tensor] | None:
        vanilla = kind == OUTPUT and self.of_vanilla(sigma)
        if self.patch.mode != BANKED and not vanilla:
            return None
        for weights in ("",) if vanilla else ("", self.weights):
            found = {
                layer: bank.get(Key(weights, kind, layer, flag, self._lent(kind, flag)), sigma) for layer in layers
            }
            if all(f is not None for f in found.values()):
                return found  # pyright: ignore[reportReturnType] - none of them is None
        return None

    def _keep(
        self, call: Call, role: str, flag: bool, features: dict[Layer, torch.Tensor], kind: str, bank: FeatureBank
    ) -> None:
        self._latest[role, flag, call.x.device] = (call.sigma, features)
        if self.patch.mode == BANKED:
            for layer, values in features.items():
                bank.put(Key(self.weights, kind, layer, flag, self._lent(kind, flag)), call.sigma, values)

    def _lent(self, kind: str, flag: bool) -> str:
        """What the bank knows a lent prompt by; a layout's outputs are of prompts of its own."""
        if flag or kind == OUTPUT or self.negative is None:
            return ""
        self._digest = self._digest or digest_of(self.negative)
        return self._digest
