"""The state of one sampling run, and the interface of patches to its model calls.

A patch is frozen. All its state lives in the RunState, created when a sampler starts and emptied when it ends, even by
an error. The patched MODEL carries wrappers only and occupies no slot of the host.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar, runtime_checkable

import torch

from .family import Options
from .notices import Notices
from .rows import Row
from .shown import Shown
from .window import Window, no_effect

if TYPE_CHECKING:
    from comfy.model_base import BaseModel
    from comfy.samplers import CFGGuider, Sampler

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


@dataclass(frozen=True, eq=False)
class RunInputs:
    """Inputs of a sampler besides noise. latent_image: [images, channels, height, width], as in a LATENT.

    denoise_mask: [images, channels, height, width], None without one.
    """

    latent_image: torch.Tensor | None = None
    denoise_mask: torch.Tensor | None = None
    seed: int = 0


class RunState:
    """State of one sampling run; safe to use from the threads of several devices."""

    def __init__(self, guider: CFGGuider, sigmas: torch.Tensor):
        self.sigmas: tuple[float, ...] = tuple(sigmas.tolist())
        """The schedule of the run."""
        self.sampler = ""
        """The sampler by `sampler_name`; empty if unknown."""
        self.shape: tuple[int, ...] = ()
        """[pictures, channels, height, width] of the run's latents; empty if unknown."""
        self.inputs = RunInputs()
        """The inputs of the run."""
        self.seed: int | None = None
        """Takes the place of the seed of noise that the sampler adds, if a patch sets it before the run."""
        self._guider: CFGGuider | None = guider
        self._memory: dict[Hashable, Any] = {}
        self._lock = threading.Lock()
        self._endings: list[Callable[[], None]] = []
        self._reports: list[Callable[[], None]] = []
        self._acted: dict[Patch, bool] = {}

    @staticmethod
    def of(options: Options) -> RunState | None:
        """The state in a model call's `transformer_options`, None outside of a run."""
        return options.get(KEY)

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value under `key` in this run, created by `make` on first use."""
        with self._lock:
            if key not in self._memory:
                self._memory[key] = make()
            return self._memory[key]

    def owners(self) -> dict[str, frozenset]:
        """The current uuids of the guider's conditionings; the host only completes them after the run has begun."""
        conds = getattr(self._guider, "conds", {})
        return {
            name: frozenset(c.get("uuid") for c in entries) for name, entries in conds.items() if entries is not None
        }

    def entry(self, uuid: Hashable) -> dict | None:
        """The entry of the guider's conditionings with a uuid; None for one of another origin."""
        conds = getattr(self._guider, "conds", {})
        found = (c for entries in conds.values() if entries is not None for c in entries if c.get("uuid") == uuid)
        return next(found, None)

    def prompts(self) -> list:
        """The entries of the guider's conditionings other than negative ones."""
        conds = getattr(self._guider, "conds", {})
        return [c for name, entries in conds.items() if entries is not None and "negative" not in name for c in entries]

    def negative(self) -> list | None:
        """The text of the guider's first negative conditioning as a plain CONDITIONING; None without one."""
        conds = getattr(self._guider, "conds", {})
        entries = [c for name, found in conds.items() if found is not None and "negative" in name for c in found]
        if not entries or entries[0].get("cross_attn") is None:
            return None
        rest = {k: v for k, v in entries[0].items() if k in _OF_THE_TEXT}
        return [[entries[0]["cross_attn"], rest]]

    def note(self, patch: Patch, acted: bool) -> None:
        """Records that a patch was called, and if it has acted."""
        self._acted[patch] = self._acted.get(patch, False) or acted

    def report(self) -> None:
        """Warns of every patch whose window contained no noise level of the run, and of what patches have noticed."""
        for patch, acted in self._acted.items():
            if not acted:
                notices_of_patch(patch).tell(no_effect(patch.window))
        for act in self._reports:
            act()

    def at_report(self, act: Callable[[], None]) -> None:
        """Calls `act` when the run has ended without an error."""
        self._reports.append(act)

    def at_end(self, act: Callable[[], None]) -> None:
        """Calls `act` when the run ends, even by an error."""
        self._endings.append(act)

    def close(self) -> None:
        """Ends the run and drops its memory, so that remaining references to this object hold no tensors."""
        endings, self._endings, self._reports = self._endings, [], []
        self._memory.clear()
        self._acted.clear()
        self._guider = None
        self.inputs = RunInputs()
        for act in endings:
            act()


@dataclass(frozen=True)
class Call:
    """One model call.

    x: [rows, channels, height, width] noisy latents. t: [rows] their noise levels, all equal to `sigma`.
    rows: one entry per row.
    options: the call's transformer_options.
    arguments: all other arguments of the host's apply_model by name.
    model: the host's BaseModel, which encodes further prompts.
    shown: the part of the run that the target's rows show.
    """

    state: RunState
    x: torch.Tensor
    t: torch.Tensor
    sigma: float
    rows: tuple[Row, ...]
    options: Options
    arguments: dict[str, Any]
    model: BaseModel
    shown: Shown

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
        """One flag per chunk, True if it carries the prompt."""
        return tuple(row.conditional for row in self.rows[:: self.images])


Forward = Callable[[Call], torch.Tensor]
"""Runs the model on a call. Returns denoised latents, [rows, channels, height, width]."""


class Patch(Protocol):
    """A change of a run's model calls. Implementations are frozen and compare by identity."""

    @property
    def node(self) -> str: ...

    @property
    def window(self) -> Window: ...

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        """The denoised latents of a call inside the window; may call `forward`, which runs the model, repeatedly."""
        ...


@dataclass(frozen=True)
class Step:
    """One evaluation of a sampler's latents, before guidance mixes its conditionings.

    model: the host's BaseModel.
    conditions: a list of entries, or None, per conditioning.
    x: [images, channels, height, width] noisy latents in the model's space. t: [images] their noise levels, all equal
        to `sigma`.
    options: the guider's model_options.
    shown: the part of the run that the latents show.
    """

    state: RunState
    model: BaseModel
    conditions: list
    x: torch.Tensor
    t: torch.Tensor
    sigma: float
    options: Options
    shown: Shown


Evaluate = Callable[[Step], list[torch.Tensor]]
"""Evaluates a step. Returns denoised latents, [images, channels, height, width], per conditioning."""


class Guidance(Protocol):
    """A patch around a whole step, which decides itself when to act.

    Implementations are frozen and compare by identity.
    """

    @property
    def node(self) -> str: ...

    @property
    def window(self) -> Window: ...

    def __call__(self, step: Step, evaluate: Evaluate) -> list[torch.Tensor]:
        """The denoised latents of a step per conditioning; may call `evaluate`, which runs the model, repeatedly."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A patch with work to do before the first model call of a run."""

    @property
    def window(self) -> Window: ...

    def prepare(
        self,
        guider: CFGGuider,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """The noise to start from. Called with a RunState in place, before the guider loads its model."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A patch with the Notices of the node that made it."""

    @property
    def notices(self) -> Notices: ...


def notices_of_patch(patch: Patch | Guidance) -> Notices:
    """A patch's Notices, or new ones that write to the log alone."""
    return patch.notices if isinstance(patch, Telling) else Notices(patch.node)


@runtime_checkable
class Demanding(Protocol):
    """A patch that needs more memory than a plain run."""

    @property
    def batches(self) -> int:
        """Memory for activations, as a multiple of the batch; the host frees it before it loads weights."""
        ...


def unprepared(node: str) -> NoReturn:
    """Raises RuntimeError for a model call outside of a run that the patch has prepared; for `RunState.recall`."""
    raise RuntimeError(
        f"{node}: expected a run that was prepared, got a model call outside of one; sample with one of ComfyUI's "
        "guiders."
    )


def sampler_name(sampler: Sampler) -> str:
    """The name of a SAMPLER's update rule; ddim and euler share one."""
    return getattr(getattr(sampler, "sampler_function", None), "__name__", type(sampler).__name__).removeprefix(
        "sample_"
    )
