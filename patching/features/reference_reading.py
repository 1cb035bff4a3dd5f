"""A patch that reads a reference's features, for both sides of guidance, in passes over it with its own prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..host.blocks import Block
from ..host.family import Family
from ..host.passes import call_arguments
from ..host.run import Call, Forward
from ..host.window import ALWAYS, Window
from .bank import digest_of
from .references import Reference
from .source_rows import SourceRows, call_of, call_with
from .taps import BankSink, LentTap


@dataclass(frozen=True, eq=False)
class ReferenceReading:
    """Fills a reference's bank in passes over the reference with its neutral prompt.

    negative: CONDITIONING of the run's negative prompt. Its rows join the calls, because one call of two rows is
    cheaper than two of one.
    """

    node: str
    family: Family
    blocks: tuple[Block, ...]
    reference: Reference
    weights: str
    negative: list | None = None
    window: Window = ALWAYS

    @property
    def batches(self) -> int:
        return 1 if self.negative is None else 2

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        tap = call.state.recall((self, "tap"), self._tap)
        if self.negative is None:
            return tap(call, forward)
        rows = [SourceRows("negative", False, call.x, self._arguments(call))]
        joint = call_with(call, rows)
        if joint is not None:
            return tap(joint, forward)[: len(call.x)]
        own = call_of(call, rows)
        assert own is not None
        tap(own, forward)
        return tap(call, forward)

    def _tap(self) -> LentTap:
        digest = "" if self.negative is None else digest_of(self.negative)
        kind, reference = self.family.lends, self.reference
        sink = BankSink(kind, self.weights, reference.bank, reference.tokens, negative_digest=digest)
        return LentTap(self.node, self.family, self.blocks, sink)

    def _arguments(self, call: Call) -> dict:
        negative = self.negative
        assert negative is not None
        return call.state.recall((self, call.x.device), lambda: call_arguments(call.model, negative, call.x, False))
