"""Judges a case: its graph must give a picture with the effect of each node, or one sentence, and leave nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import aiohttp

from ...demo.launcher.client import Prompt
from .graphs import GUIDANCE, NEUTRAL, RETOUCH, SETS, Case, is_ours
from .prompts import ancestors, bypassed, ending_at, needed, nodes_of
from .server import REJECTED, WITHHELD, Outcome, Server
from .twins import again, doubled, parted, reworded, run_with, runs, twins

LEAK, HANG, UNSEEN = "memory leak", "no end", "no effect without a word"
PICTURE, SENTENCE, REFUSAL, FAILURE = ENDINGS = ("picture", "sentence", "refusal", "failure")
"""Ends of a graph. Sentence: of ours, while it ran. Refusal: when it was queued. Failure: nothing usable, which is a
fault unless core's nodes fail alike without ours."""
RENEWED_EVERY = 50
DEMO = "LikenessDemo"
"""Beginning of the nodes of ours that load the demo's models."""
LOADER = f"{DEMO}Model"
"""Node of ours that stands for a checkpoint's loader: it is no cause of a failure of core's nodes after it."""
_SENTENCE = re.compile(r"[^\n]*[.!?]$")
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


@dataclass(frozen=True)
class Verdict:
    """Judgment on a case. ended: how its graph ended, one of ENDINGS. renewed: its plain run was repeated in a new
    process. stray: the host warned of a leak, but not when a new process ran the same graphs.
    """

    ended: str
    fault: Fault | None = None
    renewed: bool = False
    stray: bool = False


class Oracle:
    """Judges cases on one server."""

    def __init__(self, server: Server, renewed_every: int = RENEWED_EVERY):
        """renewed_every: number of cases after which a plain run is repeated in a new process."""
        self._server, self._every, self._since, self._repeats = server, renewed_every, 0, 0
        schemas = server.schemas.items()
        self._titles = {schema.get("display_name", "").partition(" (")[0] for name, schema in schemas if is_ours(name)}

    def __call__(self, case: Case) -> Verdict:
        """Runs a case and what it is compared to."""
        self._since += 1
        try:
            verdict = self._judged(case)
            if verdict.fault is not None and verdict.fault.kind == LEAK:
                self._server.restart()  # the host would warn of this model in every later prompt
            return verdict
        except TimeoutError as error:
            self._server.restart()
            if self._is_endless_alone(case):
                return Verdict(FAILURE)
            return Verdict(FAILURE, Fault(HANG, _blame(case.prompt, Outcome()), str(error)))
        except (OSError, aiohttp.ClientError):
            fault = Fault("the server has ended", _blame(case.prompt, Outcome()))
        self._server.restart()
        return Verdict(FAILURE, fault)

    def _is_endless_alone(self, case: Case) -> bool:
        """True where ComfyUI alone reaches no end of one of the case's runs either."""
        try:
            for prompt in filter(None, (case.before, case.prompt)):
                for run in runs(prompt):
                    for twin in twins(prompt, run):
                        self._server.run(twin)
        except TimeoutError:
            self._server.restart()
            return True
        return False

    def _judged(self, case: Case) -> Verdict:
        server, prompt, plain_prompt = self._server, case.prompt, plain(case.prompt)
        before = server.run(plain_prompt)
        if case.before is not None:
            server.run(case.before)
        found = server.run(prompt)
        if found.kind == REJECTED:
            return Verdict(REFUSAL, _of_refusal(found))
        if found.kind == WITHHELD:
            told = any(found.texts.values())
            return Verdict(SENTENCE, None if told else Fault(UNSEEN, _blame(prompt, found)))
        fault = self._of_error(prompt, found) if found.error else self._of_picture(prompt, found, before)
        if fault is not None and not (fault.kind == UNSEEN and self._is_heedless(plain_prompt, before)):
            return Verdict(self._ended(found), fault)
        fault, after = None, self._repeated(plain_prompt)
        warned = bool(found.leaks or after.leaks)
        stray = warned and not self._leaks_again(case, plain_prompt)
        if warned and not stray:
            fault = Fault(LEAK, _blame(prompt, found), found.error)
        elif after.ended != before.ended and not self._remembers(case):
            fault = Fault("something is left behind", _blame(prompt, found), found.error)
        elif case.before is not None:
            server.forget()
            fault = self._of_repetition(case, prompt, found, "not as on a fresh server")
        if fault is not None or self._since < self._every:
            return Verdict(self._ended(found), fault, stray=stray)
        self._since = 0
        server.restart()
        fault = self._of_repetition(case, plain_prompt, after, "plain run not as in a new process")
        return Verdict(self._ended(found), fault, renewed=True, stray=stray)

    def _is_heedless(self, prompt: Prompt, found: Outcome) -> bool:
        """True where other words give the same picture: some samplers return their noise after one step."""
        return bool(found.hash) and (other := reworded(prompt)) != prompt and self._server.run(other).hash == found.hash

    def _leaks_again(self, case: Case, plain_prompt: Prompt) -> bool:
        """True where a new process warns of a leak, too: an earlier graph's garbage is none of this one's."""
        self._server.restart()
        for prompt in filter(None, (plain_prompt, case.before)):
            self._server.run(prompt)
        return bool(self._server.run(case.prompt).leaks or self._repeated(plain_prompt).leaks)

    def _repeated(self, prompt: Prompt) -> Outcome:
        """Samples a prompt again on the same models, where the host would answer from its cache."""
        self._repeats += 1
        return self._server.run(again(prompt, self._repeats))

    def _of_repetition(self, case: Case, prompt: Prompt, found: Outcome, kind: str) -> Fault | None:
        """Runs a prompt again, on a server that has forgotten the earlier run."""
        again = self._server.run(prompt)
        if again.ended == found.ended or self._refuse_apart(found, again):
            return None
        fails = bool(again.error) or not _picture(again)
        if (fails and self._fails_alone(prompt, again, fresh=True)) or self._remembers(case):
            return None
        return Fault(kind, _blame(case.prompt, found), f"{found.error} / {again.error}".strip(" /"))

    def _refuse_apart(self, found: Outcome, again: Outcome) -> bool:
        """True where two nodes of a graph refuse: which of them runs first depends on what the host has cached."""
        said = self._is_sentence(found.error), self._is_sentence(again.error)
        return all(said) and found.at != again.at

    def _remembers(self, case: Case) -> bool:
        """True where core's own nodes give another picture after the case's graphs, all without our nodes."""
        graphs = [graph for graph in (case.prompt, case.before, case.prompt) if graph and runs(graph)]
        self._server.forget()
        ended = [self._repeated(twins(graph, runs(graph)[-1])[-1]).ended for graph in graphs]
        return bool(ended) and ended[0] != ended[-1]

    def _fails_alone(self, prompt: Prompt, found: Outcome, fresh: bool = False) -> bool:
        """True where the first run that fails in this graph fails in the same way without our nodes.

        fresh: the server forgets before each run.
        """
        run = self._failing(prompt, found, fresh)
        whole = twins(prompt, run) if run else []
        if run == found.at and run not in runs(prompt):
            whole = [twin for twin in whole if not _touched(twin)]
        parts = [part for twin in whole for part in parted(twin)] if found.error else []
        parts += [doubled(twin) for twin in whole if nodes_of(prompt, *SETS)]
        for twin in (*whole, *parts):
            if fresh:
                self._server.forget()
            alone = self._server.run(twin)
            alike = _gist(alone.error) == _gist(found.error) if found.error else not _picture(alone)
            if alike and alone.kind != REJECTED:
                return True
        return False

    def _failing(self, prompt: Prompt, found: Outcome, fresh: bool) -> str | None:
        """The run at which an error came, or the first one that gives no picture.

        For an error of a node of core's behind all runs: that node.
        """
        if found.error:
            return run_with(prompt, found.at) or (None if is_ours(found.kind) else found.at)
        for run in runs(prompt):
            if fresh:
                self._server.forget()
            if not _picture(self._server.run(ending_at(prompt, run))):
                return run
        return None

    def _ended(self, found: Outcome) -> str:
        if found.error:
            return SENTENCE if self._is_sentence(found.error) else FAILURE
        return PICTURE if _picture(found) else FAILURE

    def _is_sentence(self, error: str) -> bool:
        """True for one sentence that begins with the title of one of our nodes."""
        named = error.partition(":")[0].partition(" (")[0] in self._titles
        return bool(named and _SENTENCE.fullmatch(error) and not _RAW.search(error))

    def _of_error(self, prompt: Prompt, found: Outcome) -> Fault | None:
        if self._is_sentence(found.error) or self._fails_alone(prompt, found):
            return None
        kinds = {prompt[node]["class_type"] for node in ancestors(prompt, found.at)}
        if not any(is_ours(kind) for kind in kinds - {LOADER}):
            return None  # no node of ours has touched what failed
        return Fault("raw error", _blame(prompt, found), found.error)

    def _of_picture(self, prompt: Prompt, found: Outcome, before: Outcome) -> Fault | None:
        if not _picture(found):  # no two such pictures can be compared
            alone = self._fails_alone(prompt, found)
            return None if alone else Fault("no picture", _blame(prompt, found), str(found.facts))
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
                return Fault(UNSEEN, prompt[node]["class_type"])
        return None


def _of_patch(entry: dict[str, Any], found: Outcome, without: Outcome, told: str) -> Fault | None:
    kind = entry["class_type"]
    if is_neutral(entry["inputs"], kind):
        if without.hash and without.hash != found.hash:
            return Fault("a neutral value changes the picture", kind)
        return Fault("a neutral value warns", kind, told) if _warns(told) else None
    if without.hash == found.hash and not told and not _empty(entry["inputs"]):
        return Fault(UNSEEN, kind)
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


def _gist(text: str) -> str:
    """First line without its numbers: a call of other rows names other sizes."""
    return re.sub(r"[0-9.]+", "#", text.partition("\n")[0])


def is_neutral(inputs: dict[str, Any], kind: str) -> bool:
    return any(all(inputs.get(name) == value for name, value in values.items()) for values in NEUTRAL[kind])


def _touched(prompt: Prompt) -> bool:
    """True where a node of ours is left, other than the demo's models."""
    return any(is_ours(entry["class_type"]) for entry in prompt.values() if not entry["class_type"].startswith(DEMO))


def _empty(inputs: dict[str, Any]) -> bool:
    """An empty window is documented as neutral."""
    return "start_percent" in inputs and inputs["start_percent"] == inputs["end_percent"]


def _warns(text: str) -> bool:
    return text.startswith("Warning") or "\nWarning" in text


def _picture(found: Outcome) -> bool:
    return bool(found.facts.get("finite")) and all(deviation > 0 for deviation in found.facts["deviations"])


def _blame(prompt: Prompt, found: Outcome) -> str:
    """Our main node in the graph, and the node of the host that failed."""
    main = nodes_of(prompt, RETOUCH, GUIDANCE, *SETS) or nodes_of(prompt, "StepBlendedSampler")
    kinds = sorted({prompt[node]["class_type"] for node in main})
    return " + ".join(kinds) + (f" at {found.kind}" if found.kind else "")
