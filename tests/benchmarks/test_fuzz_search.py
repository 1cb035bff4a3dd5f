"""The search of `run.py bench fuzz`: faults are shrunk and found once, and a stopped campaign goes on."""

import math

import pytest
import torch
from hypothesis import strategies as st
from likeness.benchmarks.fuzz import campaign
from likeness.benchmarks.fuzz.graphs import Case
from likeness.benchmarks.fuzz.host_nodes import FAMILIES, NAMES, FuzzModel, FuzzVAE
from likeness.benchmarks.fuzz.oracle import Fault, Verdict
from likeness.benchmarks.fuzz.reduction import reduced

FIRST, SECOND, THIRD = ({"1": {"class_type": kind, "inputs": {}}} for kind in ("First", "Second", "Third"))

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
    faults = lambda case: next((fault for oracle in oracles if (fault := oracle(case))), None)  # noqa: E731
    judge = campaign.Judge(lambda case: Verdict("picture", faults(case)))
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
    judge = campaign.Judge(lambda _: Verdict("failure", Fault("always")))
    with pytest.raises(campaign._Found):
        judge(Case(FIRST))
    judge(Case(SECOND))
    assert judge.runs == 1
    with pytest.raises(campaign._Found):
        judge(Case(FIRST))


def test_a_campaign_ends_in_time(monkeypatch):
    drawn, asked = [], []
    drawing = st.sampled_from([Case(FIRST), Case(SECOND), Case(THIRD)]).map(lambda case: drawn.append(case) or case)
    monkeypatch.setattr(campaign, "cases", lambda _: drawing)
    judge = campaign.Judge(lambda case: asked.append(case) or Verdict("picture"), seconds=0.0)
    campaign.search(judge, {}, 3, 50, lambda *_: None)
    assert judge.ended and len(drawn) == 1 and not asked and not judge.verdicts


def test_a_graph_without_end_is_not_shrunk():
    """Every try would wait as long again."""
    asked = []

    def oracle(case):
        asked.append(case)
        return Verdict("failure", Fault("no end"))

    judge = campaign.Judge(oracle)
    with pytest.raises(campaign._Found):
        judge(Case(FIRST))
    judge(Case(SECOND))
    schemas = {"First": {"input": {}, "output": []}}
    assert judge.reduce(Fault("no end"), Case(FIRST), schemas) == (Fault("no end"), Case(FIRST))
    assert len(asked) == 1


def test_signatures_do_not_hold_numbers():
    first, second = (Fault("raw error", "A at B", f"size {n} against {n + 1}") for n in (3, 40))
    assert first.signature == second.signature


def test_a_stopped_campaign_goes_on(tmp_path):
    """A second run asks the server only for graphs that the first did not judge, and counts those, too."""
    kept, asked = tmp_path / "fuzz" / "verdicts.jsonl", []

    def oracle(case):
        asked.append(case)
        return Verdict("picture", Fault("raw error", "Node") if case.prompt == SECOND else None)

    first = campaign.Judge(oracle, kept)
    first(Case(FIRST))
    with pytest.raises(campaign._Found):
        first(Case(SECOND))
    with kept.open("a", encoding="utf-8") as file:
        file.write('["cut')
    second = campaign.Judge(oracle, kept)
    second(Case(FIRST))
    with pytest.raises(campaign._Found) as found:
        second(Case(SECOND))
    assert found.value.fault == Fault("raw error", "Node") and len(asked) == 2 and second.runs == 2
    assert second.verdicts == first.verdicts == [Verdict("picture"), Verdict("picture", Fault("raw error", "Node"))]
    second(Case(THIRD))
    assert len(asked) == 3


def test_a_signal_stops_a_campaign(monkeypatch):
    asked = []

    def oracle(case):
        asked.append(case)
        raise SystemExit(143)

    monkeypatch.setattr(campaign, "cases", lambda _: st.just(Case(FIRST)))
    with pytest.raises(KeyboardInterrupt):
        campaign.search(campaign.Judge(oracle), {}, 3, 5, lambda *_: None)
    assert len(asked) == 1


def test_graphs_of_each_kind_are_counted():
    judge = campaign.Judge(lambda _: Verdict("picture"))
    tiny = {"1": {"class_type": "FuzzModel", "inputs": {"family": "flux"}}}
    for prompt in (FIRST, SECOND, tiny, FIRST):
        judge(Case(prompt))
    assert judge.kinds == {"First": 1, "Second": 1, "FuzzModel": 1, "flux": 1, "demo": 2}


@pytest.mark.parametrize("family", NAMES)
def test_a_model_is_made_of_every_family(family):
    (first,), (same,), (other,) = (FuzzModel().make(family, seed, 4) for seed in (0, 0, 1))
    weights = [
        float(sum(w.double().abs().sum() for w in made.model.diffusion_model.parameters()))
        for made in (first, same, other)
    ]
    assert weights[0] == weights[1] != weights[2] and math.isfinite(weights[0])


@pytest.mark.parametrize(
    ("form", "shape"), [("image", (2, 16, 8, 8)), ("packed", (2, 128, 4, 4)), ("video", (1, 16, 1, 8, 8))]
)
def test_an_autoencoder_fits_its_latents(form, shape):
    (vae,) = FuzzVAE().make(form)
    with torch.inference_mode():
        latents = vae.encode(torch.rand(2, 64, 64, 3))
        pixels = vae.decode(latents)
    assert latents.shape == shape and latents.std() > 0.1 and pixels.shape[-3:] == (64, 64, 3) and pixels.std() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_model_takes_one_picture_of_one_pixel(family):
    """Two nodes that shrink inner layers leave one pixel, and guidance runs one picture alone."""
    (made,) = FuzzModel().make(family, 0, 4)
    norms = [layer for layer in made.model.diffusion_model.modules() if isinstance(layer, torch.nn.GroupNorm)]
    assert norms
    for norm in norms:
        assert torch.isfinite(norm(torch.zeros(1, norm.num_channels, 1, 1))).all()
