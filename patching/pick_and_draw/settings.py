"""Settings of Pick-and-Draw's guidance (arXiv 2401.16762): the node's widgets, and the terms that they choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..host.blocks import Layer
from ..host.family import SELF_INPUT, Family
from ..host.window import Window
from ..host.words import WordTokens

NODE = "Subject Guidance"
OVER_SAMPLING, OVER_WINDOW = "sampling", "window"
"""Parts of a run over which the step size falls: all of it, by a root, or the guided window, in a line."""


@dataclass(frozen=True, kw_only=True)
class Widgets:
    """The widgets of UREMDGuidance, under the names of its inputs."""

    text: str
    word: str
    appearance_weight: float
    appearance_start: float
    appearance_end: float
    layout_weight: float
    layout_start: float
    layout_end: float
    layout_blocks: str
    direction: str
    step: str
    step_size: float
    iterations: int
    every: int
    threshold: float
    map_blocks: str = "paper"
    kernel_size: int = 3
    kernel_width: float = 0.5
    decay: float = 1.0
    decay_over: str = OVER_SAMPLING


@dataclass(frozen=True)
class Term:
    """One loss of the score function: its weight, the window it acts in, and the layers it reads."""

    weight: float
    window: Window
    layers: tuple[Layer, ...]


class Terms(NamedTuple):
    """The terms of the score function, None for one that does not act."""

    appearance: Term | None
    layout: Term | None

    @property
    def present(self) -> tuple[Term, ...]:
        """The terms that act."""
        return tuple(term for term in self if term is not None)

    @property
    def window(self) -> Window:
        """The smallest window that holds those in which present terms act; raises ValueError without a term."""
        windows = [term.window for term in self.present]
        windows = [window for window in windows if not window.empty] or windows
        return Window(min(w.start_percent for w in windows), max(w.end_percent for w in windows))


@dataclass(frozen=True, kw_only=True, eq=False)
class GuidanceSettings:
    """The guidance for one model and one prompt.

    words: the subject's tokens in the guided prompt. map_layers: the layers whose attention to these words, stretched
    to 0..1, marks the generated subject above `threshold`. direction: of UREMD. step, step_size: kind and size, as in
    `kernels.pick_and_draw.step_of_gradient`. iterations: gradient steps per guided step. every: guide every `every`-th
    step of the windows. features: the kind that the appearance term reads, one of `host.family.FEATURES`. kernel_size,
    kernel_width: of the layout loss's smoothing. decay: of the step size, as in `kernels.pick_and_draw.decayed`.
    decay_over: OVER_SAMPLING or OVER_WINDOW.
    """

    family: Family
    words: WordTokens
    map_layers: tuple[Layer, ...]
    terms: Terms
    threshold: float
    direction: str
    step: str
    step_size: float
    iterations: int
    every: int
    features: str = SELF_INPUT
    kernel_size: int = 3
    kernel_width: float = 0.5
    decay: float = 1.0
    decay_over: str = OVER_SAMPLING
