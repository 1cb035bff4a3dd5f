"""Makes a failing graph smaller node by node, after hypothesis has made its choices simpler."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

from ...demo.launcher.client import Prompt
from .builder import COSTLY, sockets, widgets_of
from .graphs import Case
from .oracle import Fault
from .prompts import bypassed, links_of


def reduced(
    case: Case, fault: Fault, oracle: Callable[[Case], Fault | None], schemas: dict[str, Any], seconds: float
) -> tuple[Case, Fault]:
    """The smallest case found within the seconds that has a fault of the same kind and sentence, and its fault."""
    until, changed = time.monotonic() + seconds, True
    while changed:
        changed = False
        for smaller in smaller_cases(case, schemas):
            if time.monotonic() > until:
                return case, fault
            found = oracle(smaller)
            if found is not None and found.cause == fault.cause:
                case, fault, changed = smaller, found, True
                break
    return case, fault


def smaller_cases(case: Case, schemas: dict[str, Any]) -> Iterator[Case]:
    """Cases with one thing less: the graph before, a node in a chain of models, a link, a changed widget."""
    if case.before is not None:
        yield Case(case.prompt)
    for prompt in _smaller(case.prompt, schemas):
        if case.before is None:
            yield Case(prompt)
    # Both graphs must stay alike, so a pair loses what they share at the same place.
    if case.before is not None and case.before.keys() == case.prompt.keys():
        for node, name, value in _plainer_widgets(case.prompt, schemas):
            both = copy.deepcopy((case.prompt, case.before))
            if both[0][node]["class_type"] == both[1][node]["class_type"]:
                for prompt in both:
                    prompt[node]["inputs"][name] = value
                if both[0] != both[1]:
                    yield Case(*both)


def _smaller(prompt: Prompt, schemas: dict[str, Any]) -> Iterator[Prompt]:
    for node, entry in prompt.items():
        if "model" in entry["inputs"] and schemas[entry["class_type"]]["output"][:1] == ["MODEL"]:
            yield bypassed(prompt, [node])
    for node, entry in prompt.items():
        for name in links_of(entry):
            if not sockets(schemas[entry["class_type"]]).get(name, ("", True))[1]:
                without = copy.deepcopy(prompt)
                del without[node]["inputs"][name]
                yield bypassed(without, [])
    for node, name, value in _plainer_widgets(prompt, schemas):
        plainer = copy.deepcopy(prompt)
        plainer[node]["inputs"][name] = value
        yield plainer


def _plainer_widgets(prompt: Prompt, schemas: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Widgets that differ from their default, with it. Costly ones stay."""
    for node, entry in prompt.items():
        for name, (_, options) in widgets_of(schemas[entry["class_type"]]).items():
            if name in (*COSTLY, "lambda_2", "lambda_3", "switch_step"):
                continue
            if name in entry["inputs"] and "default" in options and entry["inputs"][name] != options["default"]:
                yield node, name, options["default"]
