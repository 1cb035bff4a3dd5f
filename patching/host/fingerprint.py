"""Fingerprints of the values that decide what a model computes: numbers, tensors, functions with what they capture."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy
import torch
from comfy.model_patcher import ModelPatcher

IDENTITY = "likeness_identity"
"""Attribute by which an object of any pack gives its identity: a plain value, None for one that only watches."""

_HOST = Path(comfy.__path__[0]).resolve().parent
_PACK = __name__.removesuffix(".patching.host.fingerprint")
_OWN = ("likeness.patching", "likeness.kernels", "likeness.nodes")
_CLASSES = ("builtins", "collections", "comfy", "comfy_api", "comfy_extras", "enum", "torch", *_OWN)
_REPEATABLE = (
    "comfy.weight_adapter",
    "comfy_extras.nodes_freelunch",
    "comfy_extras.nodes_model_advanced",
    "comfy_extras.nodes_model_downscale",
    *_OWN,
)
"""Modules whose functions compute the same from the same captured values, without chance or memory."""

_OF_A_RUN = frozenset({"original_forward"})
"""Attributes that only say that a model is loaded."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, slice, range)
_SAMPLE = 64
_SMALL = 1 << 16


class Fingerprint:
    """A digest of values by content.

    modules: the network's modules by `id`, with names; they count as their names. unknown: receives a description of
    everything that may act differently although it looks the same, such as a function of another pack.
    """

    def __init__(self, modules: Mapping[int, str]):
        self.unknown: list[str] = []
        self._modules = modules
        self._hash = hashlib.sha256()
        self._samples: list[torch.Tensor] = []
        self._seen: dict[int, tuple[int, Any]] = {}

    def hexdigest(self) -> str:
        """The digest of all values so far, the same on any device and on several."""
        devices = [sample.device for sample in self._samples]
        found = {device: iter(_on_cpu([s for s in self._samples if s.device == device])) for device in {*devices}}
        for device in devices:
            self._hash.update(next(found[device]).numpy().tobytes())
        self._samples.clear()
        return self._hash.hexdigest()[:24]

    def weight(self, name: str, tensor: torch.Tensor) -> None:
        """Adds a weight of a network, of which it samples values."""
        self._note("weight", name, tensor.dtype, tuple(tensor.shape))
        self._samples.append(_spread(tensor))

    def add(self, value: Any) -> None:
        """Adds a value. Containers without anything that acts count as nothing."""
        if isinstance(value, (*_PLAIN, enum.Enum)):
            self._note(type(value).__name__, value)
        elif isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, dict):
            items = [(str(key), item) for key, item in value.items() if not silent(item)]
            self._note("dict", len(items))
            for key, item in sorted(items, key=lambda pair: pair[0]):
                self._note(key)
                self.add(item)
        elif isinstance(value, (list, tuple)):
            items = [item for item in value if not silent(item)]
            self._note("list", len(items))
            for item in items:
                self.add(item)
        elif isinstance(value, (set, frozenset)):
            self._note("set", sorted(map(str, value)))
        else:
            self._object(value)

    def _object(self, value: Any) -> None:
        if id(value) in self._modules:
            self._note("module", self._modules[id(value)])
        elif id(value) in self._seen:
            self._note("again", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = (len(self._seen), value)
            self._new_object(value)

    def _new_object(self, value: Any) -> None:
        if hasattr(value, IDENTITY):
            self._note("own", _name(type(value)))
            self.add(getattr(value, IDENTITY))
        elif isinstance(value, types.MethodType):
            self.add(value.__self__)
            self._note("method", value.__func__.__qualname__)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.BuiltinFunctionType):
            self._note("builtin", value.__module__, value.__qualname__)
        elif isinstance(value, functools.partial):
            self.add([value.func, value.args, value.keywords])
        elif isinstance(value, type):
            self._class(value)
        else:
            self._instance(value)

    def _function(self, function: types.FunctionType) -> None:
        self._note("function", _name(function))
        if not _starts(_module(function), _REPEATABLE):
            self.unknown.append(_name(function))
            return
        self.add(function.__defaults__ or ())
        for cell in function.__closure__ or ():
            self.add(cell.cell_contents)

    def _class(self, kind: type) -> bool:
        """Adds a class; False for one of another pack."""
        self._note("class", *(_name(base) for base in kind.__mro__[:-1]))
        foreign = [base for base in kind.__mro__[:-1] if not _starts(_module(base), _CLASSES)]
        self.unknown += [_name(base) for base in foreign[:1]]
        return not foreign

    def _instance(self, value: Any) -> None:
        if not self._class(type(value)):
            return
        if isinstance(value, ModelPatcher):
            self.unknown.append(_name(type(value)))
        elif isinstance(value, torch.nn.Module):
            for name, tensor in (*value.named_parameters(recurse=False), *value.named_buffers(recurse=False)):
                self.weight(name, tensor)
            self.add({k: v for k, v in vars(value).items() if not k.startswith("_") and k not in _OF_A_RUN})
            self.add(dict(value.named_children()))
        elif dataclasses.is_dataclass(value):
            self.add({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        elif hasattr(value, "__dict__"):
            self.add({k: v for k, v in vars(value).items() if k not in _OF_A_RUN})
        else:
            self.unknown.append(_name(type(value)))

    def _tensor(self, tensor: torch.Tensor) -> None:
        self._note("tensor", tensor.dtype, tuple(tensor.shape))
        if tensor.numel() <= _SMALL:
            self._samples.append(tensor.detach().flatten().float())
        else:
            self._samples += [_spread(tensor), tensor.detach().float().sum()[None]]

    def _note(self, *values: Any) -> None:
        self._hash.update(repr(values).encode())


def silent(value: Any) -> bool:
    """True for an object that only watches, and for a container with nothing else in it."""
    if isinstance(value, dict):
        return all(silent(item) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return all(silent(item) for item in value)
    owner = getattr(value, "__self__", value) if isinstance(value, types.MethodType) else value
    return hasattr(owner, IDENTITY) and getattr(owner, IDENTITY) is None


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    """Values of a tensor, evenly spread over it."""
    flat = tensor.detach().flatten()
    step = max(1, len(flat) // _SAMPLE)
    return flat[: _SAMPLE * step : step].float()


def _on_cpu(samples: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Samples [values] of one device, in one transfer, so that a network on a GPU is waited for once."""
    return torch.cat(samples).cpu().split([len(sample) for sample in samples])


def _starts(module: str, names: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def _module(value: Any) -> str:
    """The module of a function or class, the same wherever the host and this pack are installed."""
    module = str(getattr(value, "__module__", ""))
    if module.startswith(f"{_PACK}."):
        return f"likeness{module.removeprefix(_PACK)}"
    return _in_host(module)


@functools.cache
def _in_host(module: str) -> str:
    # The host loads `comfy_extras` under the paths of its files.
    path = Path(module)
    return ".".join(path.relative_to(_HOST).parts) if path.is_relative_to(_HOST) else module


def _name(value: Any) -> str:
    return f"{_module(value)}.{value.__qualname__}"
