"""Report of LikenessSampler: the method and its reason, what was kept from earlier runs, and the time of each part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .subject import Subject


@dataclass(eq=False)
class Report:
    """Lines of one execution. kept: False where the next run cannot recognize the models."""

    subject: Subject
    kept: bool = True
    lines: list[str] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)
    _reused: list[str] = field(default_factory=list)
    _seconds: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Adds a line."""
        self.lines.append(line)

    @contextlib.contextmanager
    def making(self, what: str, kind: str) -> Iterator[None]:
        """Times a part. It counts as reused where the subject kept what it needs of a kind, the key's first part.

        kind: empty where nothing is kept.
        """
        before, started = self._kept(kind), time.monotonic()
        yield
        if self._kept(kind):
            self.note(what, reused=self._kept(kind) <= before)
        self._seconds.append(f"{what} {time.monotonic() - started:.1f} s")

    def _kept(self, kind: str) -> set[tuple]:
        return {key for key in self.subject.made if key[0] == kind}

    @contextlib.contextmanager
    def timing(self, what: str) -> Iterator[None]:
        """Times a part that is never kept."""
        started = time.monotonic()
        yield
        self._seconds.append(f"{what} {time.monotonic() - started:.1f} s")

    def note(self, what: str, reused: bool) -> None:
        """Notes a part as reused or made."""
        (self._reused if reused else self._made).append(what)

    def __str__(self) -> str:
        reused = [f"Reused: {', '.join(self._reused)}."] if self._reused else []
        lead = "Made, and kept for the next run" if self.kept else "Made for this run alone"
        made = [f"{lead}: {', '.join(self._made)}."] if self._made else []
        cost = [f"Cost: {', '.join(self._seconds)}."] if self._seconds else []
        return "\n".join([*self.lines, *reused, *made, *cost])
