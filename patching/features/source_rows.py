"""Rows of other pictures in the model calls of a run: their arguments, and the calls that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import torch
from comfy.conds import CONDCrossAttn

from ..host.passes import repeats_text, without_boxes
from ..host.rows import Row
from ..host.run import Call


@dataclass(frozen=True)
class SourceRows:
    """Rows of one role on one side of guidance.

    latents: [images, channels, height, width] at the call's noise level. arguments: those of the model for these rows,
    as `passes.call_arguments` makes them.
    """

    role: str
    conditional: bool
    latents: torch.Tensor
    arguments: dict

    def repeated(self, images: int) -> SourceRows:
        """The same rows with one per picture of the target; a single row is repeated."""
        if len(self.latents) == images:
            return self
        arguments = {
            k: [t.expand(images, *t.shape[1:]) for t in v] if isinstance(v, list) else _expanded(v, images)
            for k, v in self.arguments.items()
        }
        return replace(self, latents=self.latents.expand(images, *self.latents.shape[1:]), arguments=arguments)


def call_of(call: Call, sources: Sequence[SourceRows]) -> Call | None:
    """A call with the sources' rows alone; None where they cannot share one."""
    first = sources[0]
    arguments = concat_arguments([s.arguments for s in sources], repeats_text(call.model))
    if arguments is None or any(s.latents.shape != first.latents.shape for s in sources):
        return None
    x = torch.cat([s.latents for s in sources])
    options = {
        **without_boxes(call.options),
        "cond_or_uncond": [_index(s.conditional) for s in sources],
        "uuids": [None] * len(sources),
    }
    return replace(call, x=x, t=call.t[:1].expand(len(x)), rows=_rows(sources), options=options, arguments=arguments)


def call_with(call: Call, sources: Sequence[SourceRows]) -> Call | None:
    """The call with the sources' rows after the target's; None where one call cannot hold them, as with GLIGEN."""
    sources = [s.repeated(call.images) for s in sources]
    arguments = concat_arguments([call.arguments, *(s.arguments for s in sources)], repeats_text(call.model))
    if arguments is None or any(s.latents.shape[1:] != call.x.shape[1:] for s in sources):
        return None
    if without_boxes(call.options) is not call.options:
        return None
    x = torch.cat([call.x, *(s.latents for s in sources)])
    given = call.options.get("cond_or_uncond", (0,))
    options = {
        **call.options,
        "cond_or_uncond": [*given, *(_index(s.conditional) for s in sources)],
        "uuids": [*call.options.get("uuids", [None] * len(given)), *[None] * len(sources)],
    }
    rows = (*call.rows, *_rows(sources))
    return replace(call, x=x, t=call.t[:1].expand(len(x)), rows=rows, options=options, arguments=arguments)


def calls_of(call: Call, sources: Sequence[SourceRows]) -> list[Call]:
    """The sources' rows in one call if they can share it, otherwise in one each."""
    shared = call_of(call, sources)
    if shared is not None:
        return [shared]
    parts = [call_of(call, [source]) for source in sources]
    return [part for part in parts if part is not None]


def aligned(call: Call, sources: Sequence[SourceRows], counts: Sequence[int] | None = None) -> tuple[int, ...]:
    """The index of the source row with the same prompt side and picture, for every target row.

    counts: rows per source, one for all pictures or one for each of the run; by default one per picture of the call.
    """
    images, own = call.images, counts is None
    counts = counts or [images] * len(sources)
    starts = {s.conditional: sum(counts[:i]) for i, s in enumerate(sources)}
    widths = {s.conditional: counts[i] for i, s in enumerate(sources)}
    numbers = [i % images if own else row.image for i, row in enumerate(call.rows)]
    return tuple(
        starts[row.conditional] + number % widths[row.conditional]
        for number, row in zip(numbers, call.rows, strict=True)
    )


def concat_arguments(parts: Sequence[dict], repeats: bool) -> dict | None:
    """The arguments of several groups of rows, concatenated into those of one call.

    repeats: shorter texts are repeated to the length of the longest. None where the arguments differ in kind: a
    ControlNet, texts that cannot get one length, other sizes.
    """
    parts = [{k: v for k, v in part.items() if v is not None} for part in parts]
    if any(part.keys() != parts[0].keys() for part in parts):
        return None
    result = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if name == "c_crossattn" and repeats:
            texts = [CONDCrossAttn(v.to(first.dtype)) for v in values]
            one_row = [CONDCrossAttn(v[:1].to(first.dtype)) for v in values]
            if not all(one_row[0].can_concat(t) for t in one_row[1:]):
                return None
            # The longest text first: two of them may be too long for a third to be repeated.
            result[name] = _concat_texts(texts)
        elif _alike(values):
            result[name] = torch.cat([v.to(first.dtype) for v in values])
        elif isinstance(first, list) and all(_alike(items) for items in zip_longest(*values)):
            result[name] = [torch.cat([t.to(items[0].dtype) for t in items]) for items in zip(*values, strict=True)]
        elif len(parts) == 1 or (isinstance(first, int | float | str) and all(v == first for v in values)):
            result[name] = first
        else:
            return None
    return result


def _alike(values: Sequence) -> bool:
    """True for tensors whose rows have one shape."""
    return all(isinstance(v, torch.Tensor) and v.shape[1:] == values[0].shape[1:] for v in values)


def _expanded(value: Any, images: int) -> Any:
    return value.expand(images, *value.shape[1:]) if isinstance(value, torch.Tensor) else value


def _concat_texts(texts: list[CONDCrossAttn]) -> torch.Tensor:
    return texts[0].concat(texts[1:]) if len(texts) > 1 else texts[0].cond


def _rows(sources: Sequence[SourceRows]) -> tuple[Row, ...]:
    return tuple(Row(s.role, i, s.conditional) for s in sources for i in range(len(s.latents)))


def _index(conditional: bool) -> int:
    """The index of a side among the conditionings of plain guidance, which is the order that other patches expect."""
    return 0 if conditional else 1
