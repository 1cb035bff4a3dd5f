"""Layers of a transformer whose attention another node computes by itself, so that a change in them has no effect."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from .blocks import Layer, names_of
from .dit_hook import OVERRIDE, Hook
from .family import Options
from .notices import Notices
from .run import Patch, RunState, notices_of_patch


@dataclass(eq=False)
class Reached:
    """The layers that a patch changes in a run, and those of them that some model call has reached."""

    wanted: set[Layer] = field(default_factory=set)
    seen: set[Layer] = field(default_factory=set)

    def note(self, before: Options, after: Options) -> None:
        """Records a model call that has ended. before, after: its options without and with the patch's changes."""
        hook = after.get(OVERRIDE)
        if isinstance(hook, Hook):
            others = before.get(OVERRIDE)
            self.wanted |= hook.changed - (others.changed if isinstance(others, Hook) else set())
            self.seen |= hook.reached

    def tell(self, notices: Notices) -> None:
        """Warns of layers that no call has reached."""
        if missed := self.wanted - self.seen:
            notices.tell(
                f"no effect in {names_of(missed)}, because another node computes the attention of these blocks by "
                "itself, or skips them; remove that node from model, or change blocks."
            )


def note_reached(state: RunState, patch: Patch, before: Options, after: Options) -> None:
    """Records a model call of a patch; the run's report warns of layers that no call has reached."""

    def begin() -> Reached:
        reached = Reached()
        state.at_report(lambda: reached.tell(notices_of_patch(patch)))
        return reached

    if isinstance(after.get(OVERRIDE), Hook):
        state.recall((patch, "reached"), begin).note(before, after)


def check_read(layers: Iterable[Layer], found: Collection[Layer], node: str) -> None:
    """Raises ValueError where a model call has not reached some of the layers to read."""
    if missing := {layer for layer in layers if layer not in found}:
        raise ValueError(
            f"{node}: expected the model to reach {names_of(missing)}, got a model call without these blocks; remove "
            "the node that skips them, or computes their attention by itself, from model, or change blocks."
        )
