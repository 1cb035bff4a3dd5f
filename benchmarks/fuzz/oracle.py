"""Judges a case: its graph must give a picture with the effect of each node, or one sentence, and leave nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import aiohttp

from ...demo.launcher.client import Prompt
from .graphs import GUIDANCE, NEUTRAL, RETOUCH, SETS, Case, is_ours
from .prompts import bypassed, needed, nodes_of
from .server import Outcome, Server

LEAK = "memory leak"
_SENTENCE = re.compile(r"[^\n]*[.!?]$")
_NAMED = re.compile(
    r"(Subject|Likeness|Two-Model|Recorded|Save|Load|Reference|Adaptive|Segment|Appearance|Layout|Loss|Joint|Keep|"
    r"Prompt List|Attention Maps|Demo)[\w -]*:"
)
_RAW = re.compile(
    r"size mismatch|must match the size|object has no attribute|NoneType|KeyError|IndexError|TypeError|shapes cannot|"
    r"inplace operation|does not require grad|Inference tensors|out of range|invalid for input|Traceback"
)


@dataclass(frozen=True)
class Fault:
    """Fault of a graph: its kind, the node class it shows at, and what was said."""

    kind: str
    at: str = ""
    said: str = ""

    @property
    def signature(self) -> str:
        """Equal for faults of one cause at one node."""
        return f"{self.kind} | {self.at} | {_gist(self.said)[:90]}"

    @property
    def cause(self) -> tuple[str, str]:
        """Equal for faults of one cause, as far as a message tells."""
        return self.kind, _gist(self.said)


class Oracle:
    """Judges cases on one server."""

    def __init__(self, server: Server):
        self._server = server

    def __call__(self, case: Case) -> Fault | None:
        """Runs a case and what it is compared to. None where nothing is wrong."""
        try:
            fault = self._fault_of(case)
            if fault is not None and fault.kind == LEAK:  # the host would warn of this model in every later prompt
                self._server.restart()
            return fault
        except TimeoutError as error:
            fault = Fault("no end", _blame(case.prompt, Outcome()), str(error))
        except (OSError, aiohttp.ClientError):
            fault = Fault("the server has ended", _blame(case.prompt, Outcome()))
        self._server.restart()
        return fault

    def _fault_of(self, case: Case) -> Fault | None:
        server, prompt, plain_prompt = self._server, case.prompt, plain(case.prompt)
        before = server.run(plain_prompt)
        if case.before is not None:
            server.run(case.before)
        found = server.run(prompt)
        if found.kind == "rejected":
            return _of_refusal(found)
        fault = _of_error(prompt, found, before) if found.error else self._of_picture(prompt, found, before)
        if fault is not None:
            return fault
        after = server.run(plain_prompt)
        if found.leaks or after.leaks:
            return Fault(LEAK, _blame(prompt, found), found.error)
        if after.ended != before.ended:
            return Fault("something is left behind", _blame(prompt, found), found.error)
        if case.before is None:
            return None
        server.forget()
        if (fresh := server.run(prompt)).ended != found.ended:
            return Fault(
                "not as on a fresh server", _blame(prompt, found), f"{found.error} / {fresh.error}".strip(" /")
            )
        return None

    def _of_picture(self, prompt: Prompt, found: Outcome, before: Outcome) -> Fault | None:
        if not _picture(found):  # core's own nodes may give none either, and no two such pictures can be compared
            faulty = before.error or _picture(before)
            return Fault("no picture", _blame(prompt, found), str(found.facts)) if faulty else None
        patches = nodes_of(prompt, RETOUCH, GUIDANCE)
        for node in patches:
            without = before if len(patches) == 1 else self._server.run(needed(bypassed(prompt, [node])))
            if fault := _of_patch(prompt[node], found, without, found.texts.get(node, "")):
                return fault
        for node in nodes_of(prompt, *SETS):
            inputs = prompt[node]["inputs"]
            alone = found.facts["shape"][0] == 1 and "references" not in inputs
            quiet = inputs.get("strength") == 0 or inputs.get("blocks") == "" or _empty(inputs) or alone
            if found.hash == before.hash and not quiet and not found.texts.get(node):
                return Fault("no effect without a word", prompt[node]["class_type"])
        return None


def _of_patch(entry: dict[str, Any], found: Outcome, without: Outcome, told: str) -> Fault | None:
    kind = entry["class_type"]
    if is_neutral(entry["inputs"], kind):
        if without.hash and without.hash != found.hash:
            return Fault("a neutral value changes the picture", kind)
        return Fault("a neutral value warns", kind, told) if _warns(told) else None
    if without.hash == found.hash and not told and not _empty(entry["inputs"]):
        return Fault("no effect without a word", kind)
    return None


def plain(prompt: Prompt) -> Prompt:
    """The prompt without our patches, and with sets of uncoupled pictures without references."""
    made = bypassed(prompt, nodes_of(prompt, RETOUCH, GUIDANCE))
    for node in nodes_of(made, *SETS):
        inputs = made[node]["inputs"]
        made[node]["inputs"] = {k: v for k, v in inputs.items() if k not in ("references", "caption")} | {
            "strength": 0.0
        }
    return needed(made)


def _of_refusal(found: Outcome) -> Fault | None:
    # The host refuses values outside of a widget's range in its own words.
    return Fault("raw refusal", "", found.error) if _RAW.search(found.error) else None


def _of_error(prompt: Prompt, found: Outcome, before: Outcome) -> Fault | None:
    ours = _NAMED.match(found.error)
    if ours and _SENTENCE.fullmatch(found.error) and not _RAW.search(found.error):
        return None
    if before.error and _gist(before.error) == _gist(found.error):
        return None  # core's own nodes cannot run either
    if not any(is_ours(kind) for kind in _used(prompt, found.at)):
        return None  # no node of ours has touched what failed
    return Fault("raw error", _blame(prompt, found), found.error)


def _gist(text: str) -> str:
    """First line without its numbers: a call of other rows names other sizes."""
    return re.sub(r"[0-9.]+", "#", text.partition("\n")[0])


def is_neutral(inputs: dict[str, Any], kind: str) -> bool:
    return any(all(inputs.get(name) == value for name, value in values.items()) for values in NEUTRAL[kind])


def _empty(inputs: dict[str, Any]) -> bool:
    """An empty window is documented as neutral."""
    return "start_percent" in inputs and inputs["start_percent"] == inputs["end_percent"]


def _warns(text: str) -> bool:
    return text.startswith("Warning") or "\nWarning" in text


def _picture(found: Outcome) -> bool:
    return bool(found.facts.get("finite")) and all(deviation > 0 for deviation in found.facts["deviations"])


def _used(prompt: Prompt, node: str) -> set[str]:
    """Classes of the nodes that a node needs, and its own."""
    seen, left = set(), [node]
    while left:
        if (here := left.pop()) in prompt and here not in seen:
            seen.add(here)
            left += [v[0] for v in prompt[here]["inputs"].values() if isinstance(v, list)]
    return {prompt[here]["class_type"] for here in seen}


def _blame(prompt: Prompt, found: Outcome) -> str:
    """Our main node in the graph, and the node of the host that failed."""
    main = nodes_of(prompt, RETOUCH, GUIDANCE, *SETS) or nodes_of(prompt, "StepBlendedSampler")
    kinds = sorted({prompt[node]["class_type"] for node in main})
    return " + ".join(kinds) + (f" at {found.kind}" if found.kind else "")
