"""Taps read what a network computes at chosen layers and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ...kernels.attention import cross_attention_map, fold_repeats
from ..host.blocks import Block, Layer, layers_of
from ..host.family import KEYS, Family, Options
from ..host.frozen_blocks import Stop
from ..host.rows import indices, take
from ..host.run import Call, Forward
from ..host.tokens import Tokens
from ..host.window import ALWAYS, Window
from .bank import FeatureBank, Key
from .host_memory import sent


class Sink(Protocol):
    """Receives the values that a tap reads."""

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        """Receives the chosen rows of one layer, on the model's device.

        values: [rows, height * width, channels], rows in the call's order. size: (height, width).
        """
        ...


@dataclass(frozen=True, eq=False)
class Tap:
    """A patch that reads some rows of some layers into a sink.

    blocks: at least one. role, conditional: the rows to read, None for all. Raises ValueError in the first call that
    does not reach a layer, or whose rows another patch has rearranged.
    """

    node: str
    family: Family
    blocks: tuple[Block, ...]
    sink: Sink
    window: Window = ALWAYS
    role: str | None = None
    conditional: bool | None = None
    whole: bool = False
    """True for a sink that needs all pictures of the run in every call."""
    ends: Callable[[], bool] | None = None
    """Called once a call has shown all layers; True ends its pass there, for readers that need no prediction."""

    def __post_init__(self):
        if not self.blocks:
            raise ValueError(f"{self.node}: expected at least one block to read, got none; change blocks on this node.")

    @property
    def layers(self) -> tuple[Layer, ...]:
        return layers_of(self.blocks)

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        rows = indices(call.rows, self.role, self.conditional)
        if not rows:
            return forward(call)
        if self.whole and not call.shown.whole:
            raise ValueError(call.shown.refusal(self.node))
        reading = _Reading(self, call, rows, set(self.layers))
        result = forward(replace(call, options=self.tapped(reading)))
        if reading.missing:
            names = ", ".join(b.name for b in self.blocks if reading.missing & set(b.layers))
            raise ValueError(
                f"{self.node}: expected the model to reach {names}, got a model call without them; "
                "remove the node that skips or replaces these blocks from model, or change blocks on this node."
            )
        return result

    def tapped(self, reading: _Reading) -> Options:
        """The call's options with this tap in them."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class LentTap(Tap):
    """Features that a layer lends.

    Those of a U-Net are hidden states, half the size of the keys and values they project to. Those of a transformer
    are finished keys and values.
    """

    def tapped(self, reading: _Reading) -> Options:
        return self.family.tap_lent(reading.call.options, self.layers, reading.hidden_states)


@dataclass(frozen=True, eq=False)
class OutputTap(Tap):
    """Self-attention's output after its output projection, before it is added to the hidden states."""

    def tapped(self, reading: _Reading) -> Options:
        return self.family.tap_self_attention_output(reading.call.options, self.layers, reading.hidden_states)


@dataclass(frozen=True, eq=False)
class CrossAttentionTap(Tap):
    """Cross-attention probabilities of a text's tokens, averaged over heads, in fp32.

    tokens: columns of the text, in [0, prompt_length). prompt_length: tokens of the text without the host's padding,
    which repeats it.
    """

    tokens: tuple[int, ...] = ()
    prompt_length: int = 0

    def __post_init__(self):
        super().__post_init__()
        if not self.tokens or not all(0 <= token < self.prompt_length for token in self.tokens):
            raise ValueError(
                f"{self.node}: expected tokens between 0 and {self.prompt_length - 1}, got {self.tokens}; change the "
                "word."
            )

    def tapped(self, reading: _Reading) -> Options:
        return self.family.tap_cross_attention(reading.call.options, self.layers, reading.cross_attention)

    def maps(self, q: torch.Tensor, k: torch.Tensor, heads: int) -> torch.Tensor:
        """Maps of the tokens: q [rows, n, width], k [rows, m, width] -> [rows, n, len(tokens)]."""
        length = text_length(self.family, self.prompt_length, k.shape[1])
        return token_maps(q, k, heads, tokens=self.tokens, prompt_length=length, node=self.node)


def text_length(family: Family, prompt_length: int, tokens: int) -> int:
    """Length of a prompt's text in `tokens`: a U-Net may repeat it, and a transformer may have more of it."""
    return max(tokens, prompt_length) if family.lends == KEYS else prompt_length


def token_maps(
    q: torch.Tensor, k: torch.Tensor, heads: int, tokens: Sequence[int], prompt_length: int, node: str
) -> torch.Tensor:
    """Cross-attention maps of a text's tokens, summed over the host's repeats of the text: [rows, n, len(tokens)].

    q: [rows, n, width], k: [rows, m, width]. Raises ValueError where m is no multiple of prompt_length.
    """
    length = k.shape[1]
    if length % prompt_length:
        raise ValueError(
            f"{node}: expected text of {prompt_length} tokens, or repeats of it, in the model, got {length} tokens; "
            "write the sampler's prompt into text, or remove the node that adds tokens to it from model."
        )
    columns = [start + token for start in range(0, length, prompt_length) for token in tokens]
    return fold_repeats(cross_attention_map(q, k, heads, columns), len(tokens))


@dataclass(eq=False)
class BankSink:
    """Puts the values of a tap into `bank`, separately for the rows with and without the prompt.

    kind, weights: parts of the bank's keys. negative_digest: `digest_of` the run's negative prompt, where the rows
    without the prompt use it. tokens(size): indices of the tokens to keep, None for all. No bank: nothing is kept.
    """

    kind: str
    weights: str
    bank: FeatureBank | None = None
    tokens: Callable[[tuple[int, int]], torch.Tensor | None] | None = None
    negative_digest: str = ""

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        if self.bank is None:
            return
        chosen = self.tokens(size) if self.tokens else None
        kept = values if chosen is None else values[:, sent(chosen, values.device)]
        for conditional in (True, False):
            rows = indices(call.rows, None, conditional)
            if rows:
                key = Key(self.weights, self.kind, layer, conditional, "" if conditional else self.negative_digest)
                self.bank.put(key, call.sigma, take(kept, rows))


@dataclass(frozen=True)
class _Reading:
    """One model call's values for one tap."""

    tap: Tap
    call: Call
    rows: tuple[int, ...]
    missing: set[Layer]

    def hidden_states(self, layer: Layer, hidden: torch.Tensor, tokens: Tokens) -> None:
        self._record(layer, tokens.of_picture(self._select(hidden, tokens.total)), tokens.size)

    def cross_attention(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, heads: int, tokens: Tokens) -> None:
        assert isinstance(self.tap, CrossAttentionTap)
        picture = tokens.of_picture(self._select(q, tokens.total))
        self._record(layer, self.tap.maps(picture, self._select(k, k.shape[1]), heads), tokens.size)

    def _record(self, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        self.missing.discard(layer)
        self.tap.sink.record(self.call, layer, values, size)
        if self.tap.ends is not None and not self.missing and self.call.shown.whole and self.tap.ends():
            raise Stop

    def _select(self, values: torch.Tensor, positions: int) -> torch.Tensor:
        """The chosen rows of [all rows, positions, width]."""
        expected = (len(self.call.rows), positions)
        if values.shape[:2] != expected:
            raise ValueError(
                f"{self.tap.node}: expected {expected[0]} rows of {expected[1]} positions in attention, got "
                f"{values.shape[0]} of {values.shape[1]}; remove the node that divides or merges attention (such as "
                "HyperTile or ToMe) from model."
            )
        return take(values, self.rows)
