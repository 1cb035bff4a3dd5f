"""Figures of a campaign: how its graphs ended, and its faults by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..report import Target
from .oracle import FAILURE, HANG, LEAK, PICTURE, REFUSAL, SENTENCE, Fault, Verdict

_OTHER = "other_faults"
FAULTS = {
    "the server has ended": "crashes",
    HANG: "hangs",
    "no picture": "nan_pictures",
    "raw error": "raw_tracebacks",
    "raw refusal": "raw_tracebacks",
    "no effect without a word": "silent_no_effects",
    "something is left behind": "dirty_plain_runs",
    "plain run not as in a new process": "dirty_plain_runs",
    "not as on a fresh server": _OTHER,
    "a neutral value changes the picture": _OTHER,
    "a neutral value warns": _OTHER,
    LEAK: _OTHER,
}
"""Figure of each kind of fault."""
COUNT = 5000
DRAWN = COUNT + 50
"""Graphs that a campaign asks for: the search counts some of its draws twice."""
TARGETS = {"prompts": Target("at least", COUNT)} | dict.fromkeys(FAULTS.values(), Target("at most", 0))
NOTES = (
    "rarest_node: number of graphs with the node of ours that is in the fewest. The JSON has the number of each node "
    "and of each family of models.",
    "prompts: different graphs, valid or nearly so, those tried while shrinking included. Each ran after its plain "
    "twin and, unless refused, before it samples again. A third ran also after a graph that differs in one place, "
    "and again on a server that had forgotten everything.",
    "pictures, sentences, refusals: ends of these graphs. A sentence of a node of ours names the cause while the graph "
    "runs; a refusal comes when it is queued.",
    "host_failures: ComfyUI alone fails alike, without a node of ours.",
    "renewed_plain_runs: plain runs repeated in a new process, bit-identical unless counted in dirty_plain_runs.",
    "stray_leak_warnings: warnings of the host about memory that did not come again when a new process ran the same "
    "graphs; what an earlier graph left for the garbage collection counts here.",
    "The last seven figures count each fault once. Their graphs are in the folder that was printed.",
)


def figures(verdicts: Sequence[Verdict], faults: Sequence[Fault], graphs: Mapping[str, int]) -> dict[str, float]:
    """Figures of the verdicts on all graphs, and of the faults, each counted once. graphs: number with each node."""
    ended = Counter(verdict.ended for verdict in verdicts)
    alone = sum(verdict.ended == FAILURE and verdict.fault is None for verdict in verdicts)
    kinds = Counter(FAULTS[fault.kind] for fault in faults)
    found = {
        "prompts": len(verdicts),
        "pictures": ended[PICTURE],
        "sentences": ended[SENTENCE],
        "refusals": ended[REFUSAL],
        "host_failures": alone,
        "renewed_plain_runs": sum(verdict.renewed for verdict in verdicts),
        "stray_leak_warnings": sum(verdict.stray for verdict in verdicts),
        "rarest_node": min(graphs.values(), default=0),
    } | {name: kinds[name] for name in dict.fromkeys(FAULTS.values())}
    return {name: float(count) for name, count in found.items()}
