"""The comparison with peers, on random weights and a random judge, and the functions that decide its numbers."""

import itertools
import json

import numpy as np
import pytest
import torch
from likeness.benchmarks import chart, generate, grid, peers, peers_comparison, report
from likeness.benchmarks.bases import LORA, VANILLA
from likeness.benchmarks.peers_comparison import METHODS, PLAIN, SHIPPED, Peers
from likeness.benchmarks.style_aligned import adain
from likeness.demo.world.subjects import SUBJECTS
from likeness.tests.benchmarks.cells import files_of, kept_in

FEW_STEPS = generate.Settings(steps=3)
FIRST = next(iter(SUBJECTS.values()))
FEW = ("reference-only", "StyleAligned")
ONE = {method: (strength,) for method, strength in SHIPPED.items()}


@pytest.mark.usefixtures("random_judge")
def test_quick_run(random_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(generate, "Settings", lambda: FEW_STEPS)
    monkeypatch.setattr(peers, "QUICK", peers.Amounts(grid.Grid((FIRST,), prompts=1, seeds=2)))
    monkeypatch.setitem(METHODS, VANILLA, FEW)
    monkeypatch.setattr(peers_comparison, "STRENGTH_OF", dict.fromkeys(FEW, (0.5, 1.0)))
    with torch.inference_mode():
        result = peers.run(quick=True, weights=random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    rows = [f"{method} {strength}" for method in FEW for strength in ("0.5", "1")]
    assert [row["name"] for row in data["rows"]] == [f"vanilla: {name}" for name in (PLAIN, *rows)]
    gains = [
        f"vanilla_{name}_{metric}_gain{end}"
        for name in ("reference_only", "stylealigned")
        for metric in ("identity", "prompt", "layout")
        for end in ("", "_low", "_high")
    ]
    fronts = {f"vanilla_{n}_{axis}_on_front" for n in ("reference_only", "stylealigned") for axis in peers.AXES}
    assert {*gains} | fronts == set(data["figures"])
    assert result.picture.size[0] > 800 and "StyleAligned 0.5" in report.table(result)
    assert kept_in(tmp_path) == files_of(peers.sweeps(True, random_weights)) != set()


def test_every_method_draws_another_picture(random_weights, monkeypatch):
    monkeypatch.setattr(peers_comparison, "STRENGTH_OF", ONE)
    with torch.inference_mode():
        where, latents = grid.Grid((FIRST,), 1, 2).prompts_of(FIRST)[0], {}
        for base, methods in ((LORA, (PLAIN, *METHODS[LORA])), (VANILLA, ("jedi",))):
            compared = Peers(random_weights, FEW_STEPS, peers_comparison.RECIPES[base])
            for method in methods:
                latents |= compared.cell(method, FIRST, where, [5, 6])
    assert len(latents) == 2 + len(METHODS[LORA])
    for first, second in itertools.combinations(latents, 2):
        assert not torch.equal(latents[first], latents[second]), f"{first} and {second} are the same"
    assert all(found.shape == (2, 4, 16, 16) and torch.isfinite(found).all() for found in latents.values())


def test_a_method_of_strength_zero_is_the_base(random_weights, monkeypatch):
    named = ("reference-only", "MasaCtrl", "StyleAligned")
    monkeypatch.setattr(peers_comparison, "STRENGTH_OF", dict.fromkeys(named, (0.0,)))
    with torch.inference_mode():
        compared = Peers(random_weights, FEW_STEPS, peers_comparison.RECIPES[VANILLA])
        where = grid.Grid((FIRST,), 1, 1).prompts_of(FIRST)[0]
        plain = compared.cell(PLAIN, FIRST, where, [5])[PLAIN]
        for method in named:
            (latents,) = compared.cell(method, FIRST, where, [5]).values()
            torch.testing.assert_close(latents, plain, rtol=0.02, atol=0.02)


def scores_of(values):
    """Scores of the base, at (1, 1), and of two methods with two strengths each: {row: (prompt, identity)}."""
    rows = {PLAIN: (1.0, 1.0)} | values
    return {
        name: {"prompt": np.full((2, 1, 2), x), "identity": np.full((2, 1, 2), y), "layout": np.full((2, 1), x)}
        for name, (x, y) in rows.items()
    }


def test_gains_and_fronts_follow_the_scores(monkeypatch):
    monkeypatch.setattr(peers_comparison, "STRENGTH_OF", dict.fromkeys(FEW, (0.5, 1.0)))
    good = {"reference-only 0.5": (2, 2), "reference-only 1": (1, 4)}
    bad = {"StyleAligned 0.5": (1, 2), "StyleAligned 1": (3, 3)}
    found = peers.figures_of(FEW, scores_of(good | bad))
    assert found["reference_only_identity_gain"] == 3 and found["stylealigned_prompt_gain_low"] == 2
    assert found["reference_only_prompt_on_front"] == 0.5 and found["stylealigned_layout_on_front"] == 0.5
    turned = peers.figures_of(FEW, scores_of({name: (-x, -y) for name, (x, y) in (good | bad).items()}))
    assert turned["reference_only_identity_gain"] == -5 and turned["stylealigned_prompt_on_front"] == 0.5


def test_normalized_tokens_have_the_statistics_of_others():
    x, y = torch.randn(2, 7, 3), 4 + 3 * torch.randn(2, 5, 3)
    made = adain(x, y)
    torch.testing.assert_close(made.mean(1), y.mean(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.std(1, correction=0), y.std(1, correction=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adain(y, y), y, rtol=1e-4, atol=1e-4)


def test_the_plot_has_a_line_for_every_method():
    paths = {f"method {i}": [(0.1 * i, 0.2), (0.1 * i + 0.3, 0.9)] for i in range(8)}
    picture = np.asarray(chart.pareto(paths, ("prompt", "identity"), "title", (0.5, 0.5)))
    for color in chart._PALETTE:
        assert (picture == color).all(-1).sum() > 200
    one = np.asarray(chart.pareto({"alone": [(0.5, 0.5)]}, ("prompt", "identity")))
    assert (one == chart._PALETTE[0]).all(-1).sum() > 60
