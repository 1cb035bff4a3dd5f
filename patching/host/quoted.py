"""A user's text inside a message."""

from __future__ import annotations

LONGEST = 120


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text in one line, cut where a message would become too long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}..."
