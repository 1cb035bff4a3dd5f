"""Rows of other pictures in the model calls of a run: what they are given, and how they are joined to the target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from comfy.conds import CONDCrossAttn

from ..host.family import Options
from ..host.rows import Row
from ..host.run import Call


@dataclass(frozen=True)
class SourceRows:
    """Rows of one role. latents: [images, channels, height, width] at the call's noise level; arguments: the model's
    for them."""

    role: str
    conditional: bool
    latents: torch.Tensor
    arguments: dict

    def repeated(self, images: int) -> SourceRows:
        """As many rows as the target has pictures."""
        if len(self.latents) == images:
            return self
        arguments = {
            k: v.expand(images, *v.shape[1:]) if isinstance(v, torch.Tensor) else v for k, v in self.arguments.items()
        }
        return replace(self, latents=self.latents.expand(images, -1, -1, -1), arguments=arguments)


def alone(call: Call, sources: Sequence[SourceRows]) -> Call | None:
    """A call of nothing but the sources' rows; None where they cannot share one."""
    first = sources[0]
    arguments = joined([s.arguments for s in sources])
    if arguments is None or any(s.latents.shape != first.latents.shape for s in sources):
        return None
    x = torch.cat([s.latents for s in sources])
    options = {
        **call.options,
        "cond_or_uncond": [_index(call.options, s.conditional) for s in sources],
        "uuids": [None] * len(sources),
    }
    return replace(call, x=x, t=call.t[:1].expand(len(x)), rows=_rows(sources), options=options, arguments=arguments)


def together(call: Call, sources: Sequence[SourceRows]) -> Call | None:
    """The call with the sources' rows after the target's; None where one call cannot hold them."""
    sources = [s.repeated(call.images) for s in sources]
    arguments = joined([call.arguments, *(s.arguments for s in sources)])
    if arguments is None or any(s.latents.shape[1:] != call.x.shape[1:] for s in sources):
        return None
    x = torch.cat([call.x, *(s.latents for s in sources)])
    given = call.options.get("cond_or_uncond", (0,))
    options = {
        **call.options,
        "cond_or_uncond": [*given, *(_index(call.options, s.conditional) for s in sources)],
        "uuids": [*call.options.get("uuids", [None] * len(given)), *[None] * len(sources)],
    }
    return replace(
        call, x=x, t=call.t[:1].expand(len(x)), rows=(*call.rows, *_rows(sources)), options=options, arguments=arguments
    )


def calls_of(call: Call, sources: list[SourceRows]) -> list[Call]:
    """The sources' rows in one call if they can share it, otherwise in one each."""
    joint = alone(call, sources)
    if joint is not None:
        return [joint]
    parts = [alone(call, [source]) for source in sources]
    return [part for part in parts if part is not None]


def aligned(call: Call, sources: list[SourceRows], images: int, counts: list[int] | None = None) -> tuple[int, ...]:
    """For every target row, the number of the layout's row with the same prompt side and picture.

    counts: rows per source, `images` each by default; a source of one row serves every picture.
    """
    counts = counts or [images] * len(sources)
    starts = {s.conditional: sum(counts[:i]) for i, s in enumerate(sources)}
    widths = {s.conditional: counts[i] for i, s in enumerate(sources)}
    return tuple(starts[row.conditional] + (i % images) % widths[row.conditional] for i, row in enumerate(call.rows))


def joined(parts: Sequence[dict]) -> dict | None:
    """The arguments of several groups of rows as those of one call, or None: a ControlNet, or texts and sizes that do
    not go together."""
    parts = [{k: v for k, v in part.items() if v is not None} for part in parts]
    if any(part.keys() != parts[0].keys() for part in parts):
        return None
    result = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if name == "c_crossattn":
            texts = [CONDCrossAttn(v.to(first.dtype)) for v in values]
            one_row = [CONDCrossAttn(v[:1].to(first.dtype)) for v in values]
            if not all(one_row[0].can_concat(t) for t in one_row[1:]):
                return None
            # The longest text first: two of them may be too long for a third to be repeated.
            result[name] = _concatenated(texts)
        elif isinstance(first, torch.Tensor) and all(v.shape[1:] == first.shape[1:] for v in values):
            result[name] = torch.cat([v.to(first.dtype) for v in values])
        elif len(parts) > 1:
            return None
        else:
            result[name] = first
    return result


def _concatenated(texts: list[CONDCrossAttn]) -> torch.Tensor:
    return texts[0].concat(texts[1:]) if len(texts) > 1 else texts[0].cond


def _rows(sources: Sequence[SourceRows]) -> tuple[Row, ...]:
    return tuple(Row(s.role, i, s.conditional) for s in sources for i in range(len(s.latents)))


def _index(options: Options, conditional: bool) -> int:
    """As plain guidance numbers its conditionings, which is what other patches know."""
    return 0 if conditional else 1
