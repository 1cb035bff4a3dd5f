"""Lends references to the target rows of any method: in the same model call, in a call before it, or from banks.

A patch holds a `Lending`, prepares it before the run and asks its `Lender` in every model call. The method itself is a
`shared_attention.SharedAttention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from ..host.attach import bare
from ..host.blocks import Block, Layer, layers_of
from ..host.checks import refuse_reference_latents
from ..host.family import KEYS, Family
from ..host.identity import identity_in_run, network_options
from ..host.notices import Notices
from ..host.reference_places import Taken
from ..host.rows import indices
from ..host.run import Call, Forward, RunState, unprepared
from ..host.window import SigmaWindow
from .bank import digest_of
from .host_memory import sent
from .positions import BESIDE, shifts
from .read_levels import ReadLevels
from .references import Reference, keep_for
from .room import Demand, find_room, level_size
from .run_features import ChosenTokens, Features, RunFeatures, Side
from .shared_attention import Borrowed, SharedAttention
from .source_rows import SourceRows, call_with
from .sources import Source

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.samplers import CFGGuider

BATCHED, SEQUENTIAL, BANKED = "batched", "sequential", "banked"
"""In the same call; in a call before it; from banks in RAM that outlive the run. The pictures are the same."""

Change = Callable[[int, tuple[Borrowed, ...]], SharedAttention]
"""(number of target rows, references) -> the change of self-attention for one model call."""


@dataclass(frozen=True, eq=False)
class Lending:
    """The references of a patch and the way they are lent.

    blocks: whose self-attention borrows. mode: BATCHED, SEQUENTIAL or BANKED. bank_limit: GiB of RAM for the features
    of BANKED, 0 for half of what is free. positions: one of `positions.POSITIONS`, for families that lend keys. every:
    the noise levels that one reading of the references serves; above 1, BATCHED reads as SEQUENTIAL does.
    """

    node: str
    family: Family
    blocks: tuple[Block, ...]
    references: tuple[Reference, ...] = ()
    mode: str = SEQUENTIAL
    bank_limit: float = 0.0
    positions: str = BESIDE
    every: int = 1

    @property
    def batches(self) -> int:
        """Batch sizes that a call takes, for `run.Demanding`."""
        return 1 + len(self.references) if self.in_same_call else 1

    @property
    def in_same_call(self) -> bool:
        """True where the references are rows of the target's call."""
        return self.mode == BATCHED and self.every == 1

    def prepare(
        self,
        guider: CFGGuider,
        sigmas: Sequence[float],
        notices: Notices | None = None,
        window: SigmaWindow | None = None,
    ) -> Lender:
        """The lender of a run that is about to start; inverts the references where no earlier run did.

        sigmas: the noise levels at which `lender` is used. notices: of the patch's node. window: outside which no
        reference is read. Call it in the patch's `prepare`. Raises ValueError for prompts with which lent keys have no
        known place.
        """
        state = RunState.of(guider.model_options["transformer_options"])
        assert state is not None
        refuse_reference_latents(self.family, guider.conds, self.node)
        patched, identity = guider.model_patcher, identity_in_run(guider)
        plain = network_options(patched.model_options["transformer_options"], patched.wrappers)
        features = RunFeatures(self.family, identity, self.mode == BANKED, plain)
        model, told = bare(patched), notices or Notices(self.node)
        references = tuple(reference.fitted(model, self.node) for reference in self.references)
        levels = ReadLevels.of([s for s in sigmas if window is None or window.contains(s)], self.every)
        taken = self.family.taken(entry for found in guider.conds.values() for entry in found or ())
        lender = Lender(self, features, state.negative(), references, levels, taken)
        if sigmas:
            keep_for([r for r in references if r.inverted or features.banked], identity, state, told)
            lender.sources = [reference.source(model, sigmas, self.node, identity) for reference in references]
            if features.banked:
                demands = lender.demands(model, (True, False) if _uses_negative(guider) else (True,))
                features.banked = find_room(demands, levels.first, self.bank_limit, told)
            if references and self.every > 1:
                told.inform(f"each reading of the references serves up to {self.every} noise levels.")
        return state.recall((self, "lender"), lambda: lender)

    def lender(self, call: Call) -> Lender:
        """The lender of a call's run. Raises RuntimeError where `prepare` was not called."""
        return call.state.recall((self, "lender"), partial(unprepared, self.node))


@dataclass(eq=False)
class Lender:
    """The references of one run.

    negative: the run's negative prompt, used for a reference's unconditional rows. references: at the model's size.
    levels: at which they are read. taken: places of the host's own references.
    """

    settings: Lending
    features: RunFeatures
    negative: list | None
    references: tuple[Reference, ...] = ()
    levels: ReadLevels = field(default_factory=ReadLevels)
    taken: Taken = field(default_factory=Taken)
    sources: list[Source] = field(default_factory=list)
    _tokens: dict[tuple, torch.Tensor | None] = field(default_factory=dict)
    _rotations: dict[tuple, tuple[torch.Tensor | None, ...]] = field(default_factory=dict)
    _digest: str = ""

    def lend(self, call: Call, forward: Forward, change: Change) -> torch.Tensor:
        """Runs a call with a change of self-attention that sees the references. [target rows, channels, height, width].

        change(targets, borrowed): called once per model call. The references are rows of the same call or features,
        depending on the mode and on the size that fits into one call.
        """
        targets = len(call.x)
        shared = self.same_call(call)
        call, borrowed = (call, self.own_calls(call, forward)) if shared is None else shared
        return forward(self.changed(call, change(targets, borrowed)))[:targets]

    def changed(self, call: Call, change: SharedAttention) -> Call:
        """The call with the change in the self-attention of the lending's blocks.

        Raises ValueError where weights need a mask of keys and another patch computes the attention: it takes none.
        """
        settings, layers = self.settings, layers_of(self.settings.blocks)
        family = settings.family
        replaced = frozenset(layer for layer in layers if family.replaces_self_attention(call.options, (layer,)))
        if change.weighted and replaced:
            raise ValueError(
                f"{settings.node}: expected references of weight 1 where another node replaces self-attention in "
                f"model, got {', '.join(f'{weight:g}' for weight in change.weights)}; set weight to 1 on "
                "Reference Picture, or remove that node."
            )
        if replaced:
            change = replace(change, replaced=replaced)
        return replace(call, options=family.change_self_attention(call.options, layers, change))

    def same_call(self, call: Call, others: Sequence[SourceRows] = ()) -> tuple[Call, tuple[Borrowed, ...]] | None:
        """The call with the rows of `others`, then of the references, after the target's, and the references in it.

        None where the references are read apart, and where one call cannot hold the rows.
        """
        if not self.settings.in_same_call:
            return None
        sides = self.sides(call.flags)
        own = [row for i in range(len(self.sources)) for row in self.reference_rows(call, i, sides)]
        sources = [*others, *own]
        joint = call_with(call, sources) if sources else None
        if joint is None:
            return None
        borrowed, rotations = [], self.rotations(call, [(call.x.shape[-2], call.x.shape[-1])] * len(self.references))
        for i, reference in enumerate(self.references):
            first = {side: indices(joint.rows, _role(i), side)[0] for side in sides}
            rows = tuple(first[self.side(flag)] + image for flag in call.flags for image in range(call.images))
            tokens = self.tokens_of(reference, call.x.device)
            borrowed.append(Borrowed(reference.weight, rows=rows, tokens=tokens, rotation=rotations[i]))
        return joint, tuple(borrowed)

    def own_calls(self, call: Call, forward: Forward) -> tuple[Borrowed, ...]:
        """The references' features at the call's noise level: from a bank, the last call there, or a call now."""
        sides, layers = self.sides(call.flags), layers_of(self.settings.blocks)
        found, rotations = [], self.rotations(call, [reference.size for reference in self.references])
        kind, level = self.settings.family.lends, self.levels.group(call.sigma)
        for i, reference in enumerate(self.references):
            whole = {side: self._bank_side(i, side) for side in sides}
            known = {side: self.features.known(call, picture, layers, level=level) for side, picture in whole.items()}
            parts = {side: features for side, features in known.items() if features is not None}
            if missing := tuple(side for side in sides if side not in parts):
                rows = self.reference_rows(call, i, missing)
                tokens = self.tokens_of(reference, call.x.device)
                made = self.features.read(
                    call, forward, layers=layers, sources=rows, kind=kind, node=self.settings.node, tokens=tokens
                )
                for side, features in made.items():
                    self.features.keep(call, whole[side], features, level)
                parts |= made
            features = {layer: self._spread(call, parts, layer) for layer in layers}
            keys, hidden = (features, None) if kind == KEYS else (None, features)
            found.append(Borrowed(reference.weight, hidden, keys=keys, rotation=rotations[i]))
        return tuple(found)

    def rotations(self, call: Call, sizes: Sequence[tuple[int, int]]) -> tuple[torch.Tensor | None, ...]:
        """The rotation of each reference's keys, made once per size of the call; None where they stay.

        sizes: (height, width) of the references' latents.
        """
        family, device, size = self.settings.family, call.x.device, (call.x.shape[-2], call.x.shape[-1])
        key = (size, *sizes, device)
        if key not in self._rotations:
            grids = [family.grid(own) for own in sizes]
            moves = shifts(
                self.settings.positions, family.grid(size), grids, centered=family.centered, taken=self.taken
            )
            self._rotations[key] = tuple(family.rotation(shift, device) for shift in moves)
        return self._rotations[key]

    def demands(self, model: ModelPatcher, flags: Sequence[bool]) -> list[Demand]:
        """The features that the run reads of each reference. flags: the sides of guidance that the run evaluates."""
        settings, layers = self.settings, layers_of(self.settings.blocks)
        return [
            Demand(
                reference,
                tuple(self._bank_side(i, side) for side in self.sides(flags)),
                layers,
                self.features.identity.name,
                level_size(model, reference, layers, settings.node),
            )
            for i, reference in enumerate(self.references)
        ]

    def _bank_side(self, i: int, side: bool) -> Side:
        return Side(_role(i), side, self.settings.family.lends, self.references[i].bank, self._negative_digest(side))

    def reference_rows(self, call: Call, i: int, sides: Sequence[bool]) -> list[SourceRows]:
        """The rows of reference `i` at the call's noise level, one group per side of guidance."""
        latents = sent(self.sources[i].at(call.sigma), call.x)
        own = self.references[i].conditioning
        found = []
        for side in sides:
            conditioning = own if side else self.negative
            assert conditioning is not None
            found.append(self.features.rows(call, _role(i), side, latents, conditioning))
        return found

    def sides(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """The sides of guidance that a reference has to be run for."""
        return tuple(dict.fromkeys(self.side(flag) for flag in flags))

    def side(self, flag: bool) -> bool:
        """The side of a reference that a side of the target looks at: the same one (MasaCtrl, arXiv 2304.08465).

        Without a negative prompt a reference has its conditional side alone.
        """
        return flag or self.negative is None

    def tokens_of(self, reference: Reference, device: torch.device) -> ChosenTokens:
        """Indices of a reference's masked tokens by layer size, on the device, made once per run."""

        def tokens(size: tuple[int, int]) -> torch.Tensor | None:
            key = (reference, size, device)
            if key not in self._tokens:
                chosen = reference.tokens(size)
                self._tokens[key] = None if chosen is None else sent(chosen, device)
            return self._tokens[key]

        return tokens

    def _spread(self, call: Call, parts: dict[bool, Features], layer: Layer) -> torch.Tensor:
        """[1 or chunks, tokens, channels]: one row where all chunks of the call look at the same side."""
        device = call.x.device
        if len(parts) == 1:
            (only,) = parts.values()
            return only[layer].to(device, non_blocking=True)
        return torch.cat([parts[self.side(flag)][layer].to(device, non_blocking=True) for flag in call.flags])

    def _negative_digest(self, conditional: bool) -> str:
        if conditional or self.negative is None or not self.features.banked:
            return ""
        self._digest = self._digest or digest_of(self.negative)
        return self._digest


def _role(i: int) -> str:
    return f"reference{i}"


def _uses_negative(guider: CFGGuider) -> bool:
    """False where the host skips the negative prompt, at guidance scales of 1."""
    scales = [getattr(guider, name) for name in ("cfg", "cfg1", "cfg2") if hasattr(guider, name)]
    used = not scales or any(not math.isclose(scale, 1.0) for scale in scales)
    return used or bool(guider.model_options.get("disable_cfg1_optimization"))
