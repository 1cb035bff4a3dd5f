"""The life of one sampling run, and how a patch takes part in its model calls.

A patch is a frozen description. What it has to remember lives in the RunState, which is born when a sampler starts and
is emptied when it ends, however it ends. The patched MODEL carries two wrappers and nothing else: no slot of the host
is taken.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from .family import Options
from .rows import Row
from .window import Window

KEY = "likeness.run"
_OF_THE_TEXT = (
    "pooled_output",
    "width",
    "height",
    "crop_w",
    "crop_h",
    "target_width",
    "target_height",
    "aesthetic_score",
)
T = TypeVar("T")


class RunState:
    """Everything that lives for one sampling run; safe to use from the threads of several devices."""

    def __init__(self, guider, sigmas: torch.Tensor):
        self.sigmas: tuple[float, ...] = tuple(sigmas.tolist())
        """The run's schedule."""
        self.sampler = ""
        """`sampler_name` of what samples; empty where it is not known."""
        self._guider = guider
        self._memory: dict[Hashable, Any] = {}
        self._lock = threading.Lock()
        self._endings: list[Callable[[], None]] = []
        self._acted: dict[Patch, bool] = {}

    @staticmethod
    def of(options: Options) -> RunState | None:
        """The state of the run that a model call's `transformer_options` belong to."""
        return options.get(KEY)

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was remembered under `key` in this run, made now if this is the first time."""
        with self._lock:
            if key not in self._memory:
                self._memory[key] = make()
            return self._memory[key]

    def owners(self) -> dict[str, frozenset]:
        """The uuids of each of the guider's conditionings, as they are now: the host completes them after the run has
        begun."""
        conds = getattr(self._guider, "conds", {})
        return {
            name: frozenset(c.get("uuid") for c in entries) for name, entries in conds.items() if entries is not None
        }

    def prompts(self) -> list:
        """The entries of the guider's conditionings that are not negative ones."""
        conds = getattr(self._guider, "conds", {})
        return [c for name, entries in conds.items() if entries is not None and "negative" not in name for c in entries]

    def negative(self) -> list | None:
        """The text of the guider's first negative conditioning as a CONDITIONING without all else that it carries; None
        without one."""
        conds = getattr(self._guider, "conds", {})
        entries = [c for name, found in conds.items() if found is not None and "negative" in name for c in found]
        if not entries or entries[0].get("cross_attn") is None:
            return None
        rest = {k: v for k, v in entries[0].items() if k in _OF_THE_TEXT}
        return [[entries[0]["cross_attn"], rest]]

    def note(self, patch: Patch, acted: bool) -> None:
        """Remembers whether a patch has acted in this run at all."""
        self._acted[patch] = self._acted.get(patch, False) or acted

    def report(self) -> None:
        """Says so in the log where a patch was never asked to act."""
        for patch, acted in self._acted.items():
            if not acted:
                w = patch.window
                logging.warning(
                    "%s had no effect on this run: none of its noise levels lies between start_percent %g and "
                    "end_percent %g.",
                    patch.node,
                    w.start_percent,
                    w.end_percent,
                )

    def at_end(self, act: Callable[[], None]) -> None:
        """Has something done when the run ends, however it ends."""
        self._endings.append(act)

    def close(self) -> None:
        """Ends the run and forgets everything, so that what still holds this object holds no tensor."""
        endings, self._endings = self._endings, []
        self._memory.clear()
        self._acted.clear()
        self._guider = None
        for act in endings:
            act()


@dataclass(frozen=True)
class Call:
    """One model call as a patch sees it.

    x: [rows, channels, height, width] noisy latents; t: [rows] their noise levels, all equal to `sigma`; rows: what
    each of them is; options: the call's transformer_options; arguments: all other arguments of the host's apply_model
    by name; model: the host's BaseModel, for what it makes of other prompts.
    """

    state: RunState
    x: torch.Tensor
    t: torch.Tensor
    sigma: float
    rows: tuple[Row, ...]
    options: Options
    arguments: dict[str, Any]
    model: Any

    @property
    def chunks(self) -> int:
        """The number of conditionings that the call evaluates, each on the whole batch."""
        return len(self.options.get("cond_or_uncond", (0,)))

    @property
    def images(self) -> int:
        """The number of rows per conditioning."""
        return len(self.rows) // self.chunks

    @property
    def flags(self) -> tuple[bool, ...]:
        """Per chunk, whether it carries the prompt."""
        return tuple(row.conditional for row in self.rows[:: self.images])


Forward = Callable[[Call], torch.Tensor]
"""Runs the model on a call: denoised latents, [rows, channels, height, width]."""


class Patch(Protocol):
    """What a node does to the model calls of a run. Implementations are frozen and compare by identity."""

    @property
    def node(self) -> str: ...

    @property
    def window(self) -> Window: ...

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        """The denoised latents of a call inside the window; `forward` runs the model, as often as the patch likes."""
        ...


@dataclass(frozen=True)
class Step:
    """One evaluation of a sampler's latents, before guidance mixes its conditionings.

    model: the host's BaseModel; conditions: a list of entries, or None, per conditioning; x: [images, channels, height,
    width] noisy latents in the model's space; t: [images] their noise levels, all equal to `sigma`; options: the
    guider's model_options.
    """

    state: RunState
    model: Any
    conditions: list
    x: torch.Tensor
    t: torch.Tensor
    sigma: float
    options: Options


Evaluate = Callable[[Step], list[torch.Tensor]]
"""Denoised latents per conditioning."""


class Guidance(Protocol):
    """A patch that changes a step as a whole, and says itself where it has none to change. Implementations are frozen
    and compare by identity."""

    @property
    def node(self) -> str: ...

    @property
    def window(self) -> Window: ...

    def __call__(self, step: Step, evaluate: Evaluate) -> list[torch.Tensor]: ...


@runtime_checkable
class Prepared(Protocol):
    """What has something to do before the first model call of a run."""

    @property
    def window(self) -> Window: ...

    def prepare(
        self,
        guider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """The noise to start from. Called inside the run's state, before the guider has loaded its model."""
        ...


@runtime_checkable
class Demanding(Protocol):
    """What needs more memory than a plain run."""

    @property
    def batches(self) -> int:
        """So many times the batch's activations; the host makes room for them before it loads weights."""
        ...


def sampler_name(sampler) -> str:
    """What tells the update rule of one SAMPLER from another's: ddim and euler are one."""
    return getattr(getattr(sampler, "sampler_function", None), "__name__", type(sampler).__name__).removeprefix(
        "sample_"
    )
