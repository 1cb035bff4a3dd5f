"""The oracle of `run.py bench fuzz` against a server that answers by rule."""

import copy

import pytest
from likeness.benchmarks.fuzz.figures import figures
from likeness.benchmarks.fuzz.graphs import Case
from likeness.benchmarks.fuzz.oracle import Fault, Oracle, Verdict, plain
from likeness.benchmarks.fuzz.server import Outcome

GUIDED = {
    "1": {"class_type": "LikenessDemoModel", "inputs": {}},
    "2": {"class_type": "UREMDGuidance", "inputs": {"model": ["1", 0], "step_size": 0.1}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["2", 0]}},
    "4": {"class_type": "FuzzResult", "inputs": {"latent": ["3", 0]}},
    "5": {"class_type": "LikenessLossCurves", "inputs": {"losses": ["2", 1], "latent": ["3", 0]}},
}
DECODED = GUIDED | {"6": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["1", 2]}}}
DECODED["7"] = {"class_type": "EmptyLatentImage", "inputs": {}}
NEUTRAL = copy.deepcopy(GUIDED)
NEUTRAL["2"]["inputs"]["step_size"] = 0.0
SET = {
    "1": {"class_type": "LikenessDemoModel", "inputs": {}},
    "2": {"class_type": "JointImageSampler", "inputs": {"model": ["1", 0], "strength": 1.0, "blocks": "all"}},
    "3": {"class_type": "FuzzResult", "inputs": {"latent": ["2", 0]}},
}
OTHER_SENTENCE = "Subject Guidance: expected a MODEL of 4 channels, got 16; connect another."
PLAIN, GOOD, SENTENCE = "plain", "guided", "Subject Guidance: expected a word, got none; set word."


def drawn(hash_=GOOD, texts=None, *, finite=True, deviation=1.0, leaks=0, pictures=2):
    facts = {"hash": hash_, "finite": finite, "deviations": [deviation], "shape": [pictures, 4, 8, 8]}
    return Outcome(facts, texts or {}, leaks=leaks)


def failed(sentence, kind="KSampler", at="3"):
    return Outcome(at=at, kind=kind, error=sentence)


TITLES = {
    "UREMDGuidance": {"display_name": "Subject Guidance (Pick-and-Draw)"},
    "LikenessCutOut": {"display_name": "Cut Out"},
    "KSampler": {"display_name": "KSampler"},
}


class Answers:
    """A server: `prompt` answers the case's graph, `fresh` after it has forgotten, `plain_one` and `later` a graph
    without our patches before and after the case's; `renewed` the latter after a restart."""

    schemas = TITLES

    def __init__(self, case, prompt, fresh=None, plain_one=None, later=None, renewed=None):
        self.case, self.answers = case, (prompt, fresh or prompt)
        plain_one = plain_one or drawn(PLAIN)
        self.plain_answers = [plain_one, later or plain_one, renewed or later or plain_one]
        self.ran, self.forgotten, self.restarted = False, 0, 0

    def run(self, prompt):
        if prompt == self.case.before:
            return drawn("before")
        answer = self.plain_answers[2 if self.restarted else self.ran]
        if prompt == self.case.prompt or "UREMDGuidance" in [entry["class_type"] for entry in prompt.values()]:
            self.ran, answer = True, self.answers[self.forgotten > 0]
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
        (GUIDED, {"prompt": failed("Cut Out: expected a mask for each of 3, got 1 masks; connect masks.")}, None),
        (GUIDED, {"prompt": failed("KSampler: expected a model, got none; connect one.")}, "raw error"),
        (DECODED, {"prompt": failed("16 must match the size of 128.", "VAEDecode", "6")}, None),
        (GUIDED, {"prompt": Outcome(kind="withheld", texts={"2": "Nothing can be cut out."})}, None),
        (GUIDED, {"prompt": Outcome(kind="withheld")}, "no effect without a word"),
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
        (GUIDED, {"prompt": drawn(leaks=1)}, "memory leak"),
        (GUIDED, {"prompt": drawn(), "fresh": drawn("new")}, "not as on a fresh server"),
        (GUIDED, {"prompt": drawn(), "fresh": failed(SENTENCE)}, "not as on a fresh server"),
        (GUIDED, {"prompt": failed(SENTENCE), "fresh": failed(SENTENCE, at="2")}, None),
        (GUIDED, {"prompt": failed(SENTENCE), "fresh": failed(OTHER_SENTENCE)}, "not as on a fresh server"),
        (GUIDED, {"prompt": ConnectionError("gone")}, "the server has ended"),
        (GUIDED, {"prompt": TimeoutError("slow")}, "no end"),
    ],
)
def test_verdicts(prompt, answers, expected):
    case = Case(prompt, before={"1": {"class_type": "Before", "inputs": {}}})
    server = Answers(case, **answers)
    fault = Oracle(server)(case).fault
    assert (fault and fault.kind) == expected
    assert bool(server.restarted) == (expected in ("the server has ended", "no end", "memory leak"))


def test_a_leak_that_a_new_process_does_not_show_is_an_earlier_graph_s():
    case = Case(GUIDED)
    server = Answers(case, drawn(), later=drawn(PLAIN, leaks=1), renewed=drawn(PLAIN))
    verdict = Oracle(server)(case)  # pyright: ignore[reportArgumentType]
    assert verdict.fault is None and verdict.stray and server.restarted == 1


def test_what_else_is_found_beside_such_a_leak_counts():
    case = Case(GUIDED)
    server = Answers(case, drawn(), later=drawn("other", leaks=1), renewed=drawn(PLAIN))
    verdict = Oracle(server)(case)  # pyright: ignore[reportArgumentType]
    assert verdict.fault is not None and verdict.fault.kind == "something is left behind" and verdict.stray


@pytest.mark.parametrize(("heeds", "expected"), [(True, "no effect without a word"), (False, None)])
def test_a_sampler_that_returns_its_noise_has_nothing_to_follow(heeds, expected):
    told = copy.deepcopy(SET)
    told["4"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a fish"}}
    told["2"]["inputs"]["positive"] = ["4", 0]

    class Noise(Answers):
        def run(self, prompt):
            house = any("red house" in str(entry["inputs"].get("text")) for entry in prompt.values())
            return drawn("house" if heeds and house else PLAIN)

    fault = Oracle(Noise(Case(told), drawn()))(Case(told)).fault  # pyright: ignore[reportArgumentType]
    assert (fault and fault.kind) == expected


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (drawn(), "picture"),
        (failed(SENTENCE), "sentence"),
        (Outcome(kind="rejected", error="steps: expected 1 or more, got 0"), "refusal"),
        (drawn(finite=False), "failure"),
        (TimeoutError("slow"), "failure"),
    ],
)
def test_ends(answer, ended):
    assert Oracle(Answers(Case(GUIDED), answer))(Case(GUIDED)).ended == ended


@pytest.mark.parametrize(("renewed", "expected"), [(None, None), (drawn("other"), "plain run not as in a new process")])
def test_some_plain_runs_are_repeated_in_a_new_process(renewed, expected):
    case = Case(GUIDED)
    server = Answers(case, drawn(), renewed=renewed)
    oracle = Oracle(server, renewed_every=2)
    assert oracle(case) == Verdict("picture") and server.restarted == 0
    verdict = oracle(case)
    assert (verdict.fault and verdict.fault.kind) == expected and verdict.renewed and server.restarted == 1


def test_figures_count_graphs_and_faults():
    fault = Fault("no effect without a word", "UREMDGuidance")
    made = [Verdict("picture"), Verdict("picture", fault), Verdict("sentence", renewed=True), Verdict("failure")]
    made += [Verdict("refusal"), Verdict("failure", Fault("no end"))]
    graphs = {"UREMDGuidance": 4, "AdaptiveMask": 2}
    found = figures(made, [fault, Fault("no end"), Fault("raw error"), Fault("raw refusal")], graphs)
    assert {name: count for name, count in found.items() if count} == {
        "prompts": 6,
        "pictures": 2,
        "sentences": 1,
        "refusals": 1,
        "host_failures": 1,
        "renewed_plain_runs": 1,
        "rarest_node": 2,
        "hangs": 1,
        "raw_tracebacks": 2,
        "silent_no_effects": 1,
    }
    assert all(name in found for name in ("crashes", "nan_pictures", "dirty_plain_runs"))
