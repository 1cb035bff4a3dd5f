"""Reads a reference's features, for both sides of guidance, in the calls that are made with its own prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..host.blocks import Block
from ..host.family import Family
from ..host.run import Call
from ..host.window import ALWAYS, Window
from .bank import HIDDEN, digest_of
from .references import Reference, model_arguments
from .source_rows import SourceRows, alone, together
from .taps import BankSink, HiddenStateTap


@dataclass(frozen=True, eq=False)
class ReferenceReading:
    """A patch for passes over a reference with its neutral prompt, which fills its bank.

    negative: a prompt that it is lent, as CONDITIONING, to be read as well: its rows join the calls, since one call of
    two rows is cheaper than two of one. inversion: whether the pass is one; its first call sees the clean picture in
    the place of the lowest level and is not read.
    """

    node: str
    family: Family
    blocks: tuple[Block, ...]
    reference: Reference
    weights: str
    negative: list | None = None
    inversion: bool = False
    window: Window = ALWAYS

    @property
    def batches(self) -> int:
        return 1 if self.negative is None else 2

    def __call__(self, call: Call, forward: Callable[[Call], torch.Tensor]) -> torch.Tensor:
        if self.inversion and call.state.recall((self, "first"), lambda: call) is call:
            return forward(call)
        tap = call.state.recall((self, "tap"), self._tap)
        if self.negative is None:
            return tap(call, forward)
        lent = SourceRows("lent", False, call.x, self._arguments(call))
        joint = together(call, [lent])
        if joint is not None:
            return tap(joint, forward)[: len(call.x)]
        apart = alone(call, [lent])
        assert apart is not None
        tap(apart, forward)
        return tap(call, forward)

    def _tap(self) -> HiddenStateTap:
        lent = "" if self.negative is None else digest_of(self.negative)
        sink = BankSink(HIDDEN, self.weights, self.reference.bank, self.reference.tokens, lent)
        return HiddenStateTap(self.node, self.family, self.blocks, sink)

    def _arguments(self, call: Call) -> dict:
        negative = self.negative
        assert negative is not None
        return call.state.recall((self, call.x.device), lambda: model_arguments(call.model, negative, call.x))
