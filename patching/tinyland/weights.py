"""Files of the demo's weights: fp16, or 8 bits with one scale for each output channel.

An 8-bit file has int8 tensors, each with a scale in fp16 of the same name and `.channel_scale`. Vectors stay in fp16.
It may hold changes of another file's weights, which are a tenth of the weights and lose as much less by rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch

from ..host.facts import check_finite, named, parsed
from ..host.files import brief

KEY = "eight_bit"
"""Metadata key of an 8-bit file: a JSON object, with `base` where the file holds changes."""
BASE = "denoiser.safetensors"
_SCALE, _LIMIT = ".channel_scale", 127

Tensors = dict[str, torch.Tensor]


class _OtherBase(ValueError):
    pass


def read_weights(
    path: Path, kind: str, node: str = "Demo Model", base: Tensors | None = None
) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file; those of an 8-bit one in fp16.

    kind: a key that the metadata must have. node: the node's name in messages. base: the weights that changes add to.
    Raises FileNotFoundError for a missing file, ValueError for a truncated one, another kind, or changes of a base
    other than the given one.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{node}: expected the weights {path.name} in {path.parent}, found none; reinstall the pack."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        whole = unpack(tensors, metadata, base) if kind in metadata else {}
    except _OtherBase as error:
        raise ValueError(
            f"{node}: expected {path.name} made for the {BASE} in {path.parent}, got changes of other weights; "
            "reinstall the pack."
        ) from error
    except Exception as error:  # the reader of foreign bytes raises nothing narrower
        raise ValueError(
            f"{node}: expected a whole safetensors file, got {path.name} ({brief(error)}); reinstall the pack."
        ) from error
    if kind not in metadata:
        raise ValueError(f"{node}: expected {kind} weights, got another model's in {path.name}; reinstall the pack.")
    return whole, metadata


def pack(tensors: Mapping[str, torch.Tensor], base: Tensors | None = None) -> tuple[Tensors, dict[str, str]]:
    """Tensors of an 8-bit file and its entry of the metadata.

    base: store changes of these weights where the shapes agree, and fp16 elsewhere.
    """
    packed: Tensors = {}
    for name, value in tensors.items():
        value = value.detach().to("cpu", torch.float32)
        start = torch.zeros(()) if base is None else base.get(name)
        if value.ndim < 2 or start is None or start.shape not in (value.shape, ()):
            packed[name] = value.half()
            continue
        change = value - start.float()
        scale = (change.flatten(1).abs().amax(1) / _LIMIT).half()
        steps = change / _along(scale, change)
        # A scale that rounds to zero leaves 0 / 0.
        packed[name] = steps.nan_to_num(0, 0, 0).round().clamp(-_LIMIT, _LIMIT).to(torch.int8)
        packed[name + _SCALE] = scale
    return packed, {KEY: json.dumps({} if base is None else {"base": _digest(base, packed)})}


def unpack(tensors: Tensors, metadata: Mapping[str, str], base: Tensors | None = None) -> Tensors:
    """Weights in fp16 of an 8-bit file, and any other file's as they are. Raises ValueError for a damaged one."""
    if KEY not in metadata:
        return tensors
    facts = named(parsed(metadata, KEY), KEY)
    if "base" in facts and (base is None or _digest(base, tensors) != facts["base"]):
        raise _OtherBase
    whole: Tensors = {}
    for name, value in tensors.items():
        if value.dtype == torch.int8:
            whole[name] = _unpacked(name, value, tensors.get(name + _SCALE), base if "base" in facts else None)
        elif not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in tensors):
            whole[name] = value
    return whole


def _unpacked(name: str, steps: torch.Tensor, scale: torch.Tensor | None, base: Tensors | None) -> torch.Tensor:
    if scale is None or steps.ndim < 2 or scale.dtype != torch.float16 or scale.shape != steps.shape[:1]:
        raise ValueError(f"{name} has no scale for each channel")
    value = steps.float() * _along(scale, steps)
    if base is not None:
        if base[name].shape != steps.shape:
            raise ValueError(f"{name} has another shape than in {BASE}")
        value += base[name].float()
    whole = value.half()
    check_finite(whole, name)
    return whole


def _along(scale: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scale.float().reshape(-1, *[1] * (value.ndim - 1))


def _digest(base: Tensors, packed: Tensors) -> str:
    """Digest of the base's weights that have changes, whatever else it holds. Raises _OtherBase if it lacks one."""
    names = sorted(name for name, value in packed.items() if value.dtype == torch.int8)
    if any(name not in base for name in names):
        raise _OtherBase
    seen = hashlib.sha256()
    for name in names:
        seen.update(f"{name} {tuple(base[name].shape)} ".encode())
        seen.update(base[name].contiguous().view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()[:16]
