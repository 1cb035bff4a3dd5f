"""Groups of steps that a worker does in a row, and how many workers each group has."""

from __future__ import annotations

from dataclasses import dataclass

from .kept import CHEAP
from .plan import Plan
from .stages import STEPS

WEIGHTS = {"collage": 4, "segment": 1, "filter": 1, "inpaint": 4, "restyle": 2, "caption": 2}
"""Rough shares of a step in the time of a set, by which workers are divided."""
ASKING = 4
"""Workers that wait for an endpoint's captions."""


@dataclass(frozen=True)
class Group:
    """Steps in their order. draws: True where they need a device, for a ComfyUI or a network."""

    steps: tuple[str, ...]
    draws: bool
    workers: int = 1

    @property
    def weight(self) -> int:
        return sum(WEIGHTS[step] for step in self.steps)


def divided(plan: Plan, slots: int) -> list[Group]:
    """Groups of a plan. slots: workers that have a device; each group of those that draw has at least one.

    More slots part more steps, so that each ComfyUI keeps the models of few.
    """
    found: list[Group] = []
    begins = True  # no step but cheap ones so far
    for step in STEPS:
        by = plan.stage(step)["by"]
        draws = by not in (*CHEAP, "endpoint")
        if found and (begins or by in CHEAP):
            found[-1] = Group((*found[-1].steps, step), draws or found[-1].draws)
        else:
            found.append(Group((step,), draws))
        begins = begins and by in CHEAP
    while sum(group.draws for group in found) > slots:
        pairs = [i for i in range(len(found) - 1) if found[i].draws and found[i + 1].draws]
        first = min(pairs, key=lambda i: found[i].weight + found[i + 1].weight)
        found[first : first + 2] = [Group((*found[first].steps, *found[first + 1].steps), True)]
    sizes = [1] * len(found)
    drawing = [i for i, group in enumerate(found) if group.draws]
    for _ in range(slots - len(drawing) if drawing else 0):
        sizes[max(drawing, key=lambda i: found[i].weight / sizes[i])] += 1
    asking = [not group.draws and any(plan.stage(step)["by"] == "endpoint" for step in group.steps) for group in found]
    return [
        Group(group.steps, group.draws, ASKING if asks else size)
        for group, size, asks in zip(found, sizes, asking, strict=True)
    ]
