"""Names of files that a user writes into a widget."""

from __future__ import annotations

import os
import re

WINDOWS = os.name == "nt"
LONGEST = 200
"""Bytes of one part of a path; file systems take 255, of which a number and a suffix need some."""
ALSO_ON_WINDOWS = ' and without <>:"|?* or a name of a device'
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)
_REFUSED = re.compile(r'[<>:"|?*\x00-\x1f]')


def fits(name: str) -> bool:
    """True if every part of a path can be stored on this system.

    Windows reads the names of devices as devices, and what follows a colon as a hidden part of another file.
    """
    try:
        parts = re.split(r"[\\/]" if WINDOWS else "/", name)
        if "\0" in name or any(len(part.encode()) > LONGEST for part in parts):
            return False
    except UnicodeEncodeError:
        return False
    return not WINDOWS or not any(_refused_by_windows(part) for part in parts if part not in ("", ".", ".."))


def _refused_by_windows(part: str) -> bool:
    device = _DEVICES.fullmatch(part.partition(".")[0].rstrip(" "))
    return bool(device or _REFUSED.search(part) or part != part.rstrip(" ."))
