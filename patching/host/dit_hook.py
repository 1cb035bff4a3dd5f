"""The one hook in a transformer's attention, `optimized_attention_override`: every layer's call passes through it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from .blocks import Layer
from .family import LATENT, Options, SelfAttentionChange
from .joint_attention import JointAttention
from .tokens import Tokens
from .uncompiled import uncompiled

OVERRIDE = "optimized_attention_override"


class Reader(Protocol):
    """Reads one attention call: q, k, v [rows, tokens, width] with positions in q and k, and the output likewise."""

    def __call__(self, layer: Layer, attended: Attended, tokens: Tokens, /) -> None: ...


@dataclass(frozen=True, eq=False)
class Attended:
    """One attention call. output: [rows, tokens, width], before its projection; None for readers that need none."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    heads: int
    output: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Act:
    """A reading of some layers, or a change of them.

    crosses: of the cross-attention that a block has beside its own. outputs: the reader needs the output.
    """

    layers: frozenset[Layer]
    read: Reader | None = None
    change: SelfAttentionChange | None = None
    crosses: bool = False
    outputs: bool = False


class Network(Protocol):
    """Facts of a network that the hook needs."""

    @property
    def halves(self) -> bool: ...

    def layer_of(self, options: Options, queries: int, keys: int, cross: bool | None) -> tuple[Layer | None, bool]:
        """The layer of an attention call, None for refiners and the like, and True for cross-attention."""
        ...

    def tokens(self, options: Options, total: int) -> Tokens:
        """The tokens of a layer's sequence."""
        ...

    def origin(self, tokens: Tokens, device: torch.device) -> torch.Tensor | None:
        """The rotation of a picture's keys whose place depends on the prompt's length; None for fixed places."""
        ...


@dataclass(eq=False)
class _Side:
    """The kind of the attention that runs next in a network that has two of them."""

    cross: bool | None = None

    def take(self, q, k, v, **given) -> dict:
        """Patch of self-attention."""
        self.cross = False
        return {}

    def leave(self, q, k, v, **given) -> dict:
        """Patch of cross-attention."""
        self.cross = True
        return {}


@dataclass(frozen=True, eq=False)
class Hook:
    """The override of one model call. previous: the one that was there. reached: layers with acts that have run."""

    network: Network
    acts: tuple[Act, ...]
    previous: Callable | None = None
    side: _Side = field(default_factory=_Side)
    reached: set[Layer] = field(default_factory=set)

    @property
    def changed(self) -> set[Layer]:
        """The layers whose attention is changed."""
        return {layer for act in self.acts if act.change is not None for layer in act.layers}

    @uncompiled
    def __call__(self, func: Callable, q, k, v, heads: int, *args, **kwargs) -> torch.Tensor:
        def beside() -> torch.Tensor:
            return self._run(func, q, k, v, heads, *args, **kwargs)

        options, split = kwargs.get("transformer_options") or {}, bool(kwargs.get("skip_reshape"))
        lengths = [t.shape[2 if split else 1] for t in (q, k)]
        layer, crosses = self.network.layer_of(options, lengths[0], lengths[1], self.side.cross)
        acts = [act for act in self.acts if layer in act.layers and act.crosses == crosses]
        if layer is None or not acts:
            return beside()
        self.reached.add(layer)
        tokens = self.network.tokens(options, lengths[0])
        # SD3 gives its values as [rows, tokens, heads, channels].
        flat: list[torch.Tensor] = [t.transpose(1, 2).flatten(2) if split else t.flatten(2) for t in (q, k, v)]
        changes = [act.change for act in acts if act.change is not None]
        if len(changes) > 1:
            raise ValueError(
                f"expected one node that changes the attention of {layer.kind}{layer.number}, got {len(changes)}; "
                "change blocks on one of them, or remove it from model."
            )
        if changes:
            mask = args[0] if args else kwargs.get("mask")
            rest = {name: value for name, value in kwargs.items() if name not in ("mask", "skip_reshape")}

            def run(q, k, v, mask):
                return self._run(func, q, k, v, heads, mask=mask, **rest)

            output = self._changed(changes[0], layer, flat, tokens, heads, _four(mask, q), run)
        else:
            output = beside()
        for act in acts:
            if act.read is not None:
                act.read(layer, Attended(flat[0], flat[1], flat[2], heads, output if act.outputs else None), tokens)
        return output

    def _run(self, func: Callable, *args, **kwargs) -> torch.Tensor:
        return func(*args, **kwargs) if self.previous is None else self.previous(func, *args, **kwargs)

    def _changed(
        self,
        change: SelfAttentionChange,
        layer: Layer,
        flat: list[torch.Tensor],
        tokens: Tokens,
        heads: int,
        mask: torch.Tensor | None,
        run: Callable,
    ) -> torch.Tensor:
        """The layer's output, [rows, tokens, width], with a change that sees the picture's tokens first."""
        seen = tokens.picture_first
        if mask is not None:
            mask = tokens.reordered(mask, 3)
            mask = tokens.reordered(mask, 2) if mask.shape[2] > 1 else mask
        q, k, v = (tokens.reordered(t) for t in flat)
        origin = self.network.origin(tokens, q.device)
        attention = JointAttention(run, seen, heads, self.network.halves, mask, origin=origin)
        made = change.attend(layer, q, k, v, attention, seen)
        picture = seen.of_picture(made)
        changed = change.output(layer, picture, Tokens(tokens.size))
        if changed is not picture:
            made = torch.cat([changed, made[:, seen.picture :]], 1) if seen.others else changed
        return tokens.restored(made)


def hooked(network: Network, options: Options, act: Act) -> Options:
    """Options for one model call in which an act takes place too."""
    present = options.get(OVERRIDE)
    if isinstance(present, Hook) and present.network == network:
        return {**options, OVERRIDE: replace(present, acts=(*present.acts, act))}
    hook = Hook(network, (act,), present)
    return {**options, OVERRIDE: hook}


def watching_sides(options: Options) -> Options:
    """Options in which a hook knows self-attention from cross-attention where both have as many keys."""
    hook, patches = options[OVERRIDE], options.get("patches", {})
    added: dict[str, Any] = {"attn1_patch": hook.side.take, "attn2_patch": hook.side.leave}
    if any(patch in patches.get(slot, ()) for slot, patch in added.items()):
        return options
    return {**options, "patches": {**patches, **{s: [*patches.get(s, ()), p] for s, p in added.items()}}}


def numbered(options: Options, kind: str, layers: Collection[Layer]) -> Options:
    """Options in which the blocks of a network that gives them no numbers have some."""
    replaced = options.get("patches_replace", {})
    blocks = dict(replaced.get("dit", {}))
    for layer in layers:
        key = (f"{kind}_block", layer.number)
        if not isinstance(blocks.get(key), _Numbered):
            blocks[key] = _Numbered(layer.number, blocks.get(key))
    return {**options, "patches_replace": {**replaced, "dit": blocks}}


@dataclass(frozen=True, eq=False)
class _Numbered:
    """A replacement of a block that only tells its attention the block's number."""

    number: int
    previous: Callable | None

    def __call__(self, args: dict, extra: dict) -> dict:
        args = {**args, "transformer_options": {**args["transformer_options"], "block_index": self.number}}
        return extra["original_block"](args) if self.previous is None else self.previous(args, extra)


def latent_of(options: Options, name: str) -> tuple[int, int]:
    """(height, width) of the latents of the present model call."""
    shape = options.get(LATENT)
    if shape is None:
        raise RuntimeError(f"expected a model call of this pack for a {name} model, got another one.")
    return shape[-2], shape[-1]


def _four(mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """A mask as [rows or 1, heads or 1, queries or 1, keys], to be added to the logits, as the host reads it."""
    if mask is None:
        return None
    if mask.ndim < 4:
        mask = (mask[None] if mask.ndim == 2 else mask)[:, None]
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=like.dtype, device=mask.device).masked_fill(~mask, -torch.inf)
