"""Blocks of a network that are recomputed in the backward pass, instead of keeping their activations."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import comfy.model_management
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import get_device_states, set_device_states

from .frozen_layers import Forward, HostTensors, in_graph


class Stop(BaseException):
    """Ends a forward pass early. Not an Exception, so that no handler in between catches it as an error."""


class Mutated(RuntimeError):
    """A tensor that a graph has saved was modified in place, so that its gradient would be wrong."""


class _Complete(BaseException):
    """Ends a recomputation that has saved everything that the first pass saved."""


def recomputed(original: Forward, fewest: int, *, mutable: bool = False, mixed: bool = True) -> Forward:
    """A block's forward that is recomputed in the backward pass, if its input has `fewest` tokens or more.

    The block still records a graph, so that features read inside have gradients.
    mutable: allows the block to modify saved tensors in place, at the price of a copy of each during its recomputation.
    Otherwise the backward pass raises Mutated for such a block. mixed: allows inference tensors beside the graph.
    """

    def forward(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if not in_graph(x):
            return original(x, *args, **kwargs)
        if _tokens(x) < fewest:
            return _interruptible(original(x, *args, **kwargs))
        # The host later writes the next block's number into the same options.
        args = tuple(_snapshot(value) for value in args)
        kwargs = {name: _snapshot(value) for name, value in kwargs.items()}
        # Copied, since the host adds ControlNet residuals to skip connections in place.
        saved = _Recomputation(lambda x: original(x, *args, **kwargs), (x.clone(),), mutable, mixed)
        with saved_tensors_hooks(saved.number, saved.value):
            return saved.run(*saved.inputs)

    return forward


def recomputed_jointly(original: Forward, *, mutable: bool = False, mixed: bool = True) -> Forward:
    """A block's forward with any inputs in the graph, such as picture and text, recomputed as by `recomputed`.

    Sequences are copied for the recomputation, also those without a graph, since blocks of transformers add to them in
    place.
    """

    def forward(*args, **kwargs):
        values: list[Any] = [_snapshot(value) for value in (*args, *kwargs.values())]
        places = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor) and (v.requires_grad or v.ndim == 3)]
        if not any(in_graph(values[i]) for i in places):
            return original(*args, **kwargs)
        given, count, names = [values[i] for i in places], len(args), tuple(kwargs)
        for i in places:  # only the copies are kept
            values[i] = None

        def run(*inputs: torch.Tensor):
            filled = list(values)
            for i, x in zip(places, inputs, strict=True):
                # What requires a gradient by itself must not be modified in place.
                filled[i] = x.clone() if x.is_leaf and x.requires_grad else x
            return original(*filled[:count], **dict(zip(names, filled[count:], strict=True)))

        saved = _Recomputation(run, tuple(x.clone() for x in given), mutable, mixed)
        # Autograd refuses changes of what another pack's own function has returned.
        with saved_tensors_hooks(saved.number, saved.value):
            return run(*([x.clone() for x in given] if mutable else given))

    return forward


def _interruptible(output: torch.Tensor) -> torch.Tensor:
    """A block's output, from which a backward pass that the user interrupts goes no further."""
    if output.requires_grad:
        output.register_hook(_check)
    return output


def _check(slope: torch.Tensor) -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


class _Kept(NamedTuple):
    tensor: torch.Tensor
    version: int


class _Recomputation:
    """The tensors that a block saves, by the order in which it saves them.

    torch.utils.checkpoint cannot do this: it does not notice that a block modifies in place what it has saved.
    """

    def __init__(self, run: Forward, inputs: tuple[torch.Tensor, ...], mutable: bool, mixed: bool):
        self.run, self.inputs, self.mutable, self.mixed = run, inputs, mutable, mixed
        self._count = 0
        self._kept: dict[int, _Kept] | None = None
        self._random = _random_states(inputs[0])

    def number(self, tensor: torch.Tensor) -> int:
        """Stands for a saved tensor in the graph of the first pass."""
        self._count += 1
        return self._count - 1

    def value(self, number: int) -> torch.Tensor:
        """The saved tensor; the first request recomputes all of the block's."""
        if self._kept is None:
            self._kept = self._recompute()
        return self._kept.pop(number).tensor

    def _recompute(self) -> dict[int, _Kept]:
        kept: dict[int, _Kept] = {}

        def keep(tensor: torch.Tensor) -> None:
            own = tensor.detach()
            own = own.clone() if self.mutable else own
            kept[len(kept)] = _Kept(own, own._version)
            if len(kept) == self._count:
                raise _Complete

        inputs = [x.detach().requires_grad_(x.requires_grad) for x in self.inputs]
        # The autograd engine runs this without the modes of the first pass, and maybe in a thread of its own.
        with contextlib.ExitStack() as stack:
            stack.enter_context(_repeated(self._random, inputs[0]))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(SeparateViews() if self.mutable else contextlib.nullcontext())
            stack.enter_context(HostTensors() if self.mixed else contextlib.nullcontext())
            stack.enter_context(saved_tensors_hooks(keep, _not_used))
            stack.enter_context(contextlib.suppress(_Complete, Stop))
            self.run(*inputs)
        if len(kept) != self._count:
            raise RuntimeError(
                f"expected a block that saves {self._count} tensors again, got {len(kept)}: it does not repeat what it "
                "did before."
            )
        if any(entry.tensor._version != entry.version for entry in kept.values()):
            raise Mutated("a block modifies in place what its gradient needs.")
        return kept


def _not_used(kept: None) -> torch.Tensor:
    raise RuntimeError("expected no backward pass through a recomputed graph, got one.")


class _Random(NamedTuple):
    """States of the random numbers that a block may draw, as token merging does: of the CPU and of other devices."""

    cpu: torch.Tensor
    devices: list[int]
    states: list[torch.Tensor]


def _random_states(x: torch.Tensor) -> _Random:
    return _Random(torch.get_rng_state(), *get_device_states(x))


@contextlib.contextmanager
def _repeated(random: _Random, x: torch.Tensor) -> Iterator[None]:
    """Repeats the random numbers of an earlier pass, then continues where the caller was."""
    before = _random_states(x)
    _set(random, x)
    try:
        yield
    finally:
        _set(before, x)


def _set(random: _Random, x: torch.Tensor) -> None:
    torch.set_rng_state(random.cpu)
    if random.devices:
        set_device_states(random.devices, random.states, device_type=x.device.type)


def _tokens(x: torch.Tensor) -> int:
    """Number of tokens in a picture [rows, channels, height, width] or sequence [rows, tokens, channels]."""
    return x.shape[2:].numel() if x.ndim > 3 else x.shape[1]


def _snapshot(value):
    return dict(value) if isinstance(value, dict) else value


def copies_saved() -> saved_tensors_hooks:
    """A context in which a graph saves copies, so that the tensors themselves may be modified in place.

    `torch.autograd.graph.allow_mutation_on_saved_tensors` copies only what is modified. But it knows tensors by their
    addresses, and so mistakes one for another once an address is used again.
    """
    return saved_tensors_hooks(lambda tensor: tensor.detach().clone(), lambda copy: copy)


class SeparateViews(TorchFunctionMode):
    """Gives the parts of a divided tensor as slices of it.

    Autograd refuses to modify a part in place that came with others from one call.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        parts = func(*args, **kwargs)
        place = _DIVISIONS.get(getattr(func, "__name__", ""))
        if place is None or not isinstance(parts, tuple | list) or not in_graph(args[0]):
            return parts
        dim = kwargs.get("dim", args[place] if len(args) > place else 0)
        starts = itertools.accumulate((part.shape[dim] for part in parts), initial=0)
        return tuple(args[0].narrow(dim, start, part.shape[dim]) for start, part in zip(starts, parts, strict=False))


_DIVISIONS = {"chunk": 2, "split": 2, "split_with_sizes": 2, "tensor_split": 2}
"""Functions that divide a tensor, and the position of their argument `dim`."""
