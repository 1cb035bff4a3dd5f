"""Features of other pictures during one run: read in calls of their own, cached for the noise level and in banks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from ..host.blocks import Layer
from ..host.family import Family, Options
from ..host.identity import Identity, hooks_of, is_plain, network_options
from ..host.passes import call_arguments
from ..host.reached import check_read
from ..host.rows import indices, take
from ..host.run import Call, Forward
from ..host.same import same
from ..host.tokens import Tokens
from .bank import OUTPUT, FeatureBank, Key
from .source_rows import SourceRows, calls_of

Features = dict[Layer, torch.Tensor]
"""[images, tokens, channels] by layer."""

ChosenTokens = Callable[[tuple[int, int]], torch.Tensor | None]
"""tokens((height, width) of a layer): indices of the tokens to keep, None for all."""


_WINDOW = "context_window"
_KINDS = 4
"""Kinds of call at one noise level, such as those with other hooks, whose features are kept side by side."""


class Side(NamedTuple):
    """One side of guidance of one picture. kind, negative_digest: as in `bank.Key`."""

    role: str
    conditional: bool
    kind: str
    bank: FeatureBank
    negative_digest: str = ""

    def key(self, weights: str, layer: Layer) -> Key:
        """The key of one layer's features in the bank."""
        return Key(weights, self.kind, layer, self.conditional, self.negative_digest)


@dataclass(frozen=True, eq=False)
class Made:
    """Features that a call has read, with what they depend on within a run.

    That is the noise level, the call's options and its prompt's hooks. level: that of the call, or one that stands for
    several.
    """

    level: float
    options: Options
    hooks: object
    features: Features

    @staticmethod
    def by(call: Call, features: Features, level: float | None = None) -> Made:
        """The features that a call has read. level: that they stand for, by default the call's own."""
        return Made(
            call.sigma if level is None else level, network_options(call.options), hooks_of(call.model), features
        )

    def holds_for(self, call: Call, level: float | None = None) -> bool:
        """True where a call would read the same features. level: as in `by`."""
        alike = self.level == (call.sigma if level is None else level) and self.hooks is hooks_of(call.model)
        return alike and same(self.options, network_options(call.options))


@dataclass(eq=False)
class RunFeatures:
    """The features of one run.

    identity: of its MODEL. banked: read from and written to the banks. plain: `network_options` of its MODEL; only
    calls with these may use the banks.
    """

    family: Family
    identity: Identity
    banked: bool
    plain: Options
    _latest: dict[tuple, list[Made]] = field(default_factory=dict)
    _arguments: dict[tuple, dict] = field(default_factory=dict)

    def rows(
        self,
        call: Call,
        role: str,
        conditional: bool,
        latents: torch.Tensor,
        conditioning: list,
        of_run: bool = False,
    ) -> SourceRows:
        """Rows of one role with its own prompt. latents: [images, channels, height, width] at the call's level.

        of_run: True for a picture that has the run's own latent image and noise mask, as an inpainting model sees them.
        """
        key = (role, conditional, call.x.device, len(latents))
        if key not in self._arguments:
            self._arguments[key] = call_arguments(
                call.model, conditioning, latents, conditional, call.state.inputs if of_run else None
            )
        return SourceRows(role, conditional, latents, self._arguments[key])

    def read(
        self,
        call: Call,
        forward: Forward,
        *,
        layers: Sequence[Layer],
        sources: Sequence[SourceRows],
        kind: str,
        node: str,
        tokens: ChosenTokens | None = None,
    ) -> dict[bool, Features]:
        """Runs the rows of one role in calls of their own and reads their features, by side of guidance.

        Raises ValueError, naming `node`, where a call does not reach all layers.
        """
        made: dict[bool, Features] = {s.conditional: {} for s in sources}
        tap = self.family.tap_self_attention_output if kind == OUTPUT else self.family.tap_lent
        for part in calls_of(call, sources):

            def read(layer: Layer, values: torch.Tensor, seen: Tokens, part: Call = part) -> None:
                chosen = tokens(seen.size) if tokens else None
                for conditional, features in made.items():
                    rows = indices(part.rows, None, conditional)
                    if rows:
                        picked = seen.of_picture(take(values, rows))
                        features[layer] = picked if chosen is None else picked[:, chosen]

            forward(replace(part, options=tap(part.options, layers, read)))
        for features in made.values():
            check_read(layers, features, node)
        return made

    def known(
        self,
        call: Call,
        side: Side,
        layers: Sequence[Layer],
        weights: Sequence[str] | None = None,
        level: float | None = None,
    ) -> Features | None:
        """Features of the last call at the same noise level, or from the bank; None where there are none.

        weights: see `in_bank`. level: one that stands for that of the call, as in `ReadLevels.group`.
        """
        seen = _in_no_window(call)
        for latest in self._latest.get((side.role, side.conditional, call.x.device), ()):
            if latest.holds_for(seen, level):
                return latest.features
        found = self.in_bank(side, call.sigma, layers, self.good_for(call) if weights is None else weights)
        if found is not None and level is not None:
            self._remember(call, side, found, level)
        return found

    def good_for(self, call: Call) -> tuple[str, ...]:
        """The models whose features in the banks are good for a call; "" stands for a layout's own run."""
        if not self.banked:
            return ()
        return ("", self.identity.name) if is_plain(call.model, call.options, self.plain) else ("",)

    def in_bank(
        self, side: Side, sigma: float, layers: Sequence[Layer], weights: Sequence[str] | None = None
    ) -> Features | None:
        """The bank's features of all `layers` at a noise level; None where one is missing.

        weights: the models whose features are good, in order of preference. By default none without a bank, otherwise
        those of no model (a layout's own run recorded them), then the run's.
        """
        if weights is None:
            weights = ("", self.identity.name) if self.banked else ()
        for name in weights:
            found: Features = {}
            for layer in layers:
                values = side.bank.get(side.key(name, layer), sigma)
                if values is None:
                    break
                found[layer] = values
            else:
                return found
        return None

    def keep(self, call: Call, side: Side, features: Features, level: float | None = None) -> None:
        """Keeps features for later calls at the same noise level, and in the bank for later runs. level: as in
        `known`."""
        self._remember(call, side, features, level)
        if self.banked and is_plain(call.model, call.options, self.plain):
            for layer, values in features.items():
                side.bank.put(side.key(self.identity.name, layer), call.sigma, values)

    def _remember(self, call: Call, side: Side, features: Features, level: float | None) -> None:
        """Keeps features for later calls. Where several levels share a reading, each kind of call has its own."""
        key = (side.role, side.conditional, call.x.device)
        others = [made for made in self._latest.get(key, ()) if level is not None and made.level == level]
        self._latest[key] = [*others, Made.by(_in_no_window(call), features, level)][-_KINDS:]


def _in_no_window(call: Call) -> Call:
    """The call without its context window, which a reference's own rows do not have."""
    if _WINDOW not in call.options:
        return call
    return replace(call, options={name: value for name, value in call.options.items() if name != _WINDOW})
