"""Damaged and hostile versions of files, from a seeded generator."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    float("inf"),
    float("nan"),
    "",
    "x",
    "../../x",
    "\0",
    [],
    {},
    [[]],
    {"a": 1},
)
DEPTH = 20_000


class Code:
    """Object whose unpickling makes a folder."""

    def __init__(self, trace: Path):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and body of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def replaced_leaf(value: Any, rng: random.Random) -> Any:
    """The value with one part of it, or all, replaced by something hostile."""
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [replaced_leaf(v, rng) if i == place else v for i, v in enumerate(value)]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        name = rng.choice([*value])
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != name}
        return {k: replaced_leaf(v, rng) if k == name else v for k, v in value.items()}
    return rng.choice([one for one in HOSTILE if one != value])


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, most of them in the first part."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 40])):
        place = rng.randrange(min(len(data), rng.choice([12, 400, len(data)])))
        changed[place] = rng.randrange(256)
    return bytes(changed)


def grown(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice([1, 8, 1000])) + data[place:]


def huge_header(data: bytes, rng: random.Random) -> bytes:
    length = rng.choice([2**63, 2**64 - 1, 10**8 + 1, 10**8 - 1, len(data) + 1])
    return length.to_bytes(8, "little") + data[8:]


def deep_header(data: bytes, rng: random.Random) -> bytes:
    text = b"[" * DEPTH if rng.random() < 0.5 else b'{"a":' * DEPTH
    return len(text).to_bytes(8, "little") + text


def changed_fact(data: bytes, rng: random.Random) -> bytes:
    """One entry of the metadata lost, nested too deep, no JSON, or with a hostile part."""
    header, body = parts(data)
    facts = dict(header["__metadata__"])
    name = rng.choice([*facts])
    how = rng.random()
    if how < 0.1:
        del facts[name]
    elif how < 0.2:
        facts[name] = "[" * DEPTH + "]" * DEPTH
    elif how < 0.25:
        facts[name] = rng.choice(["", "{", "9" * 5000, "NaN", "\ud7ff"])
    else:
        try:
            facts[name] = json.dumps(replaced_leaf(json.loads(facts[name]), rng))
        except ValueError:  # a plain text
            facts[name] = str(rng.choice(HOSTILE))
    return joined({**header, "__metadata__": facts}, body)


def changed_tensor(data: bytes, rng: random.Random) -> bytes:
    """One tensor lost, renamed, of another shape or type, or of no numbers."""
    header, body = parts(data)
    name = rng.choice([key for key in header if key != "__metadata__"])
    entry, how = dict(header[name]), rng.randrange(6)
    start, end = entry["data_offsets"]
    if how == 0:
        header = {(f"{k}x" if k == name else k): v for k, v in header.items()}
    elif how == 1:
        entry["shape"] = [1, *entry["shape"]]
    elif how == 2:
        count = 1
        for side in entry["shape"]:
            count *= side
        entry["shape"] = [count]
    elif how == 3 and entry["dtype"] == "F32":
        entry["dtype"] = rng.choice(["I32", "U32"])
    elif how == 4:
        entry["shape"] = [2**40, *entry["shape"][1:]]
    else:
        body = body[:start] + b"\xff" * (end - start) + body[end:]
    return joined({**header, name: entry} if how else header, body)


def other_format(data: bytes, rng: random.Random) -> bytes:
    """A picture, a page, a zip, a pickle with harmless content, or nothing under the file's name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../escaped", b"\0" * 10**6)
    return rng.choice(
        [b"", b"\0" * 4096, b"<html>not found</html>", b"\x89PNG\r\n", archive.getvalue(), pickle.dumps({"a": 1})]
    )


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncated,
    flipped,
    grown,
    huge_header,
    deep_header,
    other_format,
    *(changed_fact,) * 6,
    *(changed_tensor,) * 4,
)


def mutated(data: bytes, seed: int) -> tuple[str, bytes]:
    """Name of a mutation, and a safetensors file that it has changed."""
    rng = random.Random(seed)
    mutation = rng.choice(MUTATIONS)
    return mutation.__name__, mutation(data, rng)
