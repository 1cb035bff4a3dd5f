"""The oracle of `run.py bench fuzz` against a server that answers by rule, and the search for faults."""

import copy

import pytest
import torch
from hypothesis import strategies as st
from likeness.benchmarks.fuzz import campaign
from likeness.benchmarks.fuzz.graphs import Case
from likeness.benchmarks.fuzz.host_nodes import FAMILIES, FuzzModel
from likeness.benchmarks.fuzz.oracle import Fault, Oracle, plain
from likeness.benchmarks.fuzz.reduction import reduced
from likeness.benchmarks.fuzz.server import Outcome

GUIDED = {
    "1": {"class_type": "LikenessDemoModel", "inputs": {}},
    "2": {"class_type": "UREMDGuidance", "inputs": {"model": ["1", 0], "step_size": 0.1}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["2", 0]}},
    "4": {"class_type": "FuzzResult", "inputs": {"latent": ["3", 0]}},
    "5": {"class_type": "LikenessLossCurves", "inputs": {"losses": ["2", 1], "latent": ["3", 0]}},
}
NEUTRAL = copy.deepcopy(GUIDED)
NEUTRAL["2"]["inputs"]["step_size"] = 0.0
SET = {
    "1": {"class_type": "LikenessDemoModel", "inputs": {}},
    "2": {"class_type": "JointImageSampler", "inputs": {"model": ["1", 0], "strength": 1.0, "blocks": "all"}},
    "3": {"class_type": "FuzzResult", "inputs": {"latent": ["2", 0]}},
}
PLAIN, GOOD, SENTENCE = "plain", "guided", "Subject Guidance: expected a word, got none; set word."


def drawn(hash_=GOOD, texts=None, *, finite=True, deviation=1.0, leaks=0, pictures=2):
    facts = {"hash": hash_, "finite": finite, "deviations": [deviation], "shape": [pictures, 4, 8, 8]}
    return Outcome(facts, texts or {}, leaks=leaks)


def failed(sentence, kind="KSampler", at="3"):
    return Outcome(at=at, kind=kind, error=sentence)


class Answers:
    """A server: `prompt` answers the case's graph, `fresh` after it has forgotten, `plain` and `later` the plain one
    before and after the case's."""

    def __init__(self, case, prompt, fresh=None, plain_one=None, later=None):
        self.case, self.answers = case, (prompt, fresh or prompt)
        plain_one = plain_one or drawn(PLAIN)
        self.plain_answers = [plain_one, later or plain_one]
        self.forgotten, self.restarted = 0, 0

    def run(self, prompt):
        if prompt == self.case.before:
            return drawn("before")
        answer = self.answers[self.forgotten > 0] if prompt == self.case.prompt else self.plain_answers[0]
        if prompt != self.case.prompt:
            self.plain_answers.reverse()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def forget(self):
        self.forgotten += 1

    def restart(self):
        self.restarted += 1


def test_a_plain_graph_has_none_of_our_patches():
    assert [entry["class_type"] for entry in plain(GUIDED).values()] == ["LikenessDemoModel", "KSampler", "FuzzResult"]
    assert plain(GUIDED)["2"]["inputs"] == {"model": ["1", 0]} and GUIDED["3"]["inputs"] == {"model": ["2", 0]}
    referred = copy.deepcopy(SET)
    referred["2"]["inputs"]["references"] = ["1", 0]
    assert plain(referred)["2"]["inputs"] == {"model": ["1", 0], "strength": 0.0, "blocks": "all"}


@pytest.mark.parametrize(
    ("prompt", "answers", "expected"),
    [
        (GUIDED, {"prompt": drawn()}, None),
        (GUIDED, {"prompt": failed(SENTENCE)}, None),
        (GUIDED, {"prompt": failed("'NoneType' object has no attribute 'shape'")}, "raw error"),
        (GUIDED, {"prompt": failed("Subject Guidance: The size of tensor a must match the size of b.")}, "raw error"),
        (GUIDED, {"prompt": failed("core wants 3\nrows"), "plain_one": failed("core wants 40")}, None),
        (GUIDED, {"prompt": drawn(finite=False)}, "no picture"),
        (GUIDED, {"prompt": drawn(deviation=0.0)}, "no picture"),
        (GUIDED, {"prompt": drawn(deviation=0.0), "plain_one": drawn(PLAIN, deviation=0.0)}, None),
        (GUIDED, {"prompt": drawn(PLAIN, finite=False), "plain_one": drawn(PLAIN, finite=False)}, None),
        (GUIDED, {"prompt": drawn(PLAIN)}, "no effect without a word"),
        (GUIDED, {"prompt": drawn(PLAIN, {"2": "Warning: The window is empty."})}, None),
        (NEUTRAL, {"prompt": drawn(PLAIN)}, None),
        (NEUTRAL, {"prompt": drawn()}, "a neutral value changes the picture"),
        (NEUTRAL, {"prompt": drawn(PLAIN, {"2": "Warning: It does nothing."})}, "a neutral value warns"),
        (SET, {"prompt": drawn()}, None),
        (SET, {"prompt": drawn(PLAIN)}, "no effect without a word"),
        (SET, {"prompt": drawn(PLAIN, pictures=1)}, None),
        (GUIDED, {"prompt": drawn(), "later": drawn("other")}, "something is left behind"),
        (GUIDED, {"prompt": failed(SENTENCE), "later": drawn("other")}, "something is left behind"),
        (GUIDED, {"prompt": failed(SENTENCE), "later": drawn(PLAIN, leaks=1)}, "memory leak"),
        (GUIDED, {"prompt": drawn(), "fresh": drawn("new")}, "not as on a fresh server"),
        (GUIDED, {"prompt": drawn(), "fresh": failed(SENTENCE)}, "not as on a fresh server"),
        (GUIDED, {"prompt": ConnectionError("gone")}, "the server has ended"),
        (GUIDED, {"prompt": TimeoutError("slow")}, "no end"),
    ],
)
def test_verdicts(prompt, answers, expected):
    case = Case(prompt, before={"1": {"class_type": "Before", "inputs": {}}})
    server = Answers(case, **answers)
    fault = Oracle(server)(case)
    assert (fault and fault.kind) == expected
    assert server.restarted == (expected in ("the server has ended", "no end", "memory leak"))


SCHEMAS = {
    "LikenessDemoModel": {"input": {}, "output": ["MODEL"]},
    "Patch": {"input": {"required": {"model": ["MODEL"], "scale": ["FLOAT", {"default": 1.0}]}}, "output": ["MODEL"]},
    "Mask": {"input": {}, "output": ["MASK"]},
    "KSampler": {
        "input": {"required": {"model": ["MODEL"], "cfg": ["FLOAT", {"default": 8.0}]}, "optional": {"mask": ["MASK"]}},
        "output": ["LATENT"],
    },
    "FuzzResult": {"input": {"required": {"latent": ["LATENT"]}}, "output": []},
}


def test_a_failing_graph_loses_what_its_fault_does_not_need():
    prompt = {
        "1": {"class_type": "LikenessDemoModel", "inputs": {}},
        "2": {"class_type": "Patch", "inputs": {"model": ["1", 0], "scale": 3.0}},
        "3": {"class_type": "Patch", "inputs": {"model": ["2", 0], "scale": 2.0}},
        "4": {"class_type": "Mask", "inputs": {}},
        "5": {"class_type": "KSampler", "inputs": {"model": ["3", 0], "cfg": 2.0, "mask": ["4", 0]}},
        "6": {"class_type": "FuzzResult", "inputs": {"latent": ["5", 0]}},
    }

    def oracle(case):
        scales = [entry["inputs"]["scale"] for entry in case.prompt.values() if entry["class_type"] == "Patch"]
        return Fault("raw error", str(len(case.prompt)), f"scale 2 of {len(scales)}") if 2.0 in scales else None

    case, fault = reduced(Case(prompt, before=prompt), oracle(Case(prompt)), oracle, SCHEMAS, 60)
    assert [entry["class_type"] for entry in case.prompt.values()] == [
        "LikenessDemoModel",
        "Patch",
        "KSampler",
        "FuzzResult",
    ]
    assert case.prompt["2"]["inputs"]["scale"] == 2.0 and case.prompt["3"]["inputs"] == {"model": ["2", 0], "cfg": 8.0}
    assert case.before is None and fault.at == "4"
    assert reduced(Case(prompt), fault, oracle, SCHEMAS, 0.0)[0].prompt == prompt


def faulty(node, kind):
    """Oracle for which every graph with a node has a fault."""
    return lambda case: Fault(kind, node) if any(e["class_type"] == node for e in case.prompt.values()) else None


def test_each_fault_is_found_once_and_shrunk(monkeypatch):
    """Graphs are drawn as chains of letters: a case with both faults gives both, each in its smallest chain."""
    letters = st.text("abcd", max_size=12)
    monkeypatch.setattr(
        campaign,
        "cases",
        lambda _: letters.map(lambda t: Case({str(i): {"class_type": c, "inputs": {}} for i, c in enumerate(t)})),
    )
    oracles = [faulty("b", "first"), faulty("c", "second")]
    judge = campaign.Judge(lambda case: next((fault for oracle in oracles if (fault := oracle(case))), None))
    found = []
    campaign.search(
        judge,
        {letter: {"input": {}, "output": []} for letter in "abcd"},
        3,
        200,
        lambda fault, case: found.append((fault.kind, case)),
    )
    assert sorted(kind for kind, _ in found) == ["first", "second"]
    shapes = {kind: "".join(entry["class_type"] for entry in case.prompt.values()) for kind, case in found}
    assert shapes == {"first": "b", "second": "c"}


def test_shrinking_ends(monkeypatch):
    """After its time no new graph is run, and the smallest one seen is reported."""
    monkeypatch.setattr(campaign, "SHRINK_SECONDS", 0.0)
    judge = campaign.Judge(lambda _: Fault("always"))
    with pytest.raises(campaign._Found):
        judge(Case(GUIDED))
    judge(Case(SET))
    assert judge.runs == 1
    with pytest.raises(campaign._Found):
        judge(Case(GUIDED))


def test_signatures_do_not_hold_numbers():
    first, second = (Fault("raw error", "A at B", f"size {n} against {n + 1}") for n in (3, 40))
    assert first.signature == second.signature


def test_a_stopped_campaign_goes_on(tmp_path):
    """A second run asks the server only for graphs that the first did not judge, and counts those, too."""
    kept, asked = tmp_path / "fuzz" / "verdicts.jsonl", []

    def oracle(case):
        asked.append(case)
        return Fault("raw error", "Node") if case.prompt == SET else None

    first = campaign.Judge(oracle, kept)
    first(Case(GUIDED))
    with pytest.raises(campaign._Found):
        first(Case(SET))
    with kept.open("a", encoding="utf-8") as file:
        file.write('["cut')
    second = campaign.Judge(oracle, kept)
    second(Case(GUIDED))
    with pytest.raises(campaign._Found) as found:
        second(Case(SET))
    assert found.value.fault == Fault("raw error", "Node") and len(asked) == 2 and second.runs == 2
    second(Case(NEUTRAL))
    assert len(asked) == 3


def test_a_signal_stops_a_campaign(monkeypatch):
    asked = []

    def oracle(case):
        asked.append(case)
        raise SystemExit(143)

    monkeypatch.setattr(campaign, "cases", lambda _: st.just(Case(GUIDED)))
    with pytest.raises(KeyboardInterrupt):
        campaign.search(campaign.Judge(oracle), {}, 3, 5, lambda *_: None)
    assert len(asked) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_model_takes_one_picture_of_one_pixel(family):
    """Two nodes that shrink inner layers leave one pixel, and guidance runs one picture alone."""
    (made,) = FuzzModel().make(family, 0, 4)
    norms = [layer for layer in made.model.diffusion_model.modules() if isinstance(layer, torch.nn.GroupNorm)]
    assert norms
    for norm in norms:
        assert torch.isfinite(norm(torch.zeros(1, norm.num_channels, 1, 1))).all()
