"""`run.py bench gpu`: its rows at small sizes, what it keeps, and where it stops."""

import json
import math

import pytest
import torch
from likeness.benchmarks import gpu, gpu_rows
from likeness.benchmarks.gpu_rows import Amounts, Group, Row
from likeness.benchmarks.transformer_networks import TRANSFORMERS
from likeness.benchmarks.waits import counted_waits

TINY = Amounts(steps=2, seconds=0.0, fewest_rounds=1, sets=(2,), tokens=(1024,), small=True)


@pytest.fixture
def fake_groups(monkeypatch):
    """Two groups of two rows whose measures are functions of a dict by row name; returns it and the rows measured."""
    measures, done = {}, []

    def row(name):
        def measure():
            done.append(name)
            return measures.get(name, lambda: ({"time ratio": [2.0, 1.0, 3.0]}, {f"{name}_ratio": 2.0}))()

        return Row(name, measure)

    made = [Group("first", lambda _: [row("a"), row("b")]), Group("second", lambda _: [row("c"), row("d")])]
    monkeypatch.setattr(gpu, "groups", lambda: made)
    return measures, done


def test_another_run_goes_on_after_the_last_row(fake_groups, tmp_path, monkeypatch):
    measures, done = fake_groups
    file = tmp_path / "gpu.json"
    measures["c"] = lambda: pytest.fail("interrupted")
    with pytest.raises(pytest.fail.Exception):
        gpu.run(True, json_file=file)
    assert [row["name"] for row in json.loads(file.read_text())["rows"]] == ["a", "b"]
    del measures["c"]
    whole = gpu.run(True, json_file=file)
    assert done == ["a", "b", "c", "c", "d"]
    assert [row["name"] for row in whole.rows] == ["a", "b", "c", "d"] and len(whole.figures) == 4
    assert file.with_suffix(".md").read_text().count("2.000 [1.000, 3.000]") == 4
    monkeypatch.setattr(gpu, "code", lambda: "changed")
    gpu.run(True, json_file=file)
    assert done[5:] == ["a", "b", "c", "d"]


def test_a_machine_whose_files_are_lost_goes_on_from_the_published_results(fake_groups, tmp_path, monkeypatch):
    _, done = fake_groups
    monkeypatch.setattr(gpu.report, "RESULTS", tmp_path / "results")
    gpu.run(True, json_file=tmp_path / "results" / "gpu.json")
    result = gpu.run(True, json_file=tmp_path / "elsewhere" / "gpu.json")
    assert done == ["a", "b", "c", "d"] and len(result.rows) == 4


def test_a_failed_row_is_told_and_tried_again(fake_groups, tmp_path):
    measures, done = fake_groups
    measures["a"] = lambda: 1 / 0
    result = gpu.run(True, json_file=tmp_path / "gpu.json")
    assert [row["name"] for row in result.rows] == ["b", "c", "d"]
    assert "Failed: a: division by zero" in result.notes and result.notes[-1] == "Not measured yet: first."
    del measures["a"]
    result = gpu.run(True, json_file=tmp_path / "gpu.json")
    assert done == ["a", "b", "c", "d", "a"] and result.notes == gpu.NOTES


def test_a_row_that_would_end_too_late_is_left_out(fake_groups, monkeypatch):
    measures, done = fake_groups
    clock = [0.0]

    def lasting(seconds):
        clock[0] += seconds
        return {}, {}

    monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
    measures.update({name: lambda: lasting(10) for name in "abcd"})
    gpu.run(True, seconds=25)
    assert done == ["a", "b"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_full_run_wants_a_gpu():
    with pytest.raises(ValueError, match=r"expected an NVIDIA GPU, found none; bench gpu --quick"):
        gpu.run(False)


def test_rows_of_the_methods(one_level, monkeypatch):
    monkeypatch.setattr(gpu_rows.Networks, "_make", lambda *_: one_level)
    monkeypatch.setattr(gpu_rows, "small_network", lambda _: one_level)
    made = gpu_rows.Networks(TINY)
    known = {group.name: group for group in gpu_rows.groups()}
    with torch.inference_mode(), gpu.silence():
        for name in ("sd15_bf16 methods", "sdxl_fp16 idle", "appearance loss", "sd15_fp16 compiled"):
            rows = known[name].rows(made)
            assert len({row.name for row in rows}) == len(rows) == {"idle": 1, "compiled": 2}.get(name.split()[1], 3)
            for row in rows:
                metrics, figures = row.measure()
                values = [value for interval in metrics.values() for value in interval]
                assert figures and all(math.isfinite(value) for value in values), row.name
                if "methods" in name:
                    own, of_reference = metrics["waits per step"], metrics["waits per step of the reference"]
                    assert metrics["peak GiB"][0] > 0 and own[0] > 0 and of_reference[0] > 0
                    (extra,) = (value for name, value in figures.items() if name.endswith("_extra_waits"))
                    assert extra == pytest.approx(own[0] - of_reference[0])


def test_the_trace_of_a_guided_step_names_its_operations(one_level, monkeypatch):
    monkeypatch.setattr(gpu_rows.Networks, "_make", lambda *_: one_level)
    (group,) = (group for group in gpu_rows.groups() if group.name == "sd15_fp16 trace")
    with torch.inference_mode(), gpu.silence():
        rows = {row.name.rpartition(": ")[2]: row.measure()[0] for row in group.rows(gpu_rows.Networks(TINY))}
    whole = rows.pop("all operations")
    assert whole["calls"][0] > sum(row["calls"][0] for row in rows.values()) and whole["seconds"][0] > 0
    shares = [row["share of time"][0] for row in rows.values()]
    assert len(shares) == 8 and shares == sorted(shares, reverse=True) and 0 < sum(shares) < 1
    assert any("mm" in name or "conv" in name for name in rows)


@pytest.mark.parametrize("kind", list(TRANSFORMERS))
def test_transformers_take_the_methods(kind):
    """Narrow ones, as a rehearsal: each row is finite."""
    made = gpu_rows.Networks(TINY)
    (group,) = (group for group in gpu_rows.groups() if group.name == f"{kind}_bf16 methods")
    with torch.inference_mode(), gpu.silence():
        for row in group.rows(made):
            metrics, figures = row.measure()
            values = [value for interval in metrics.values() for value in interval]
            assert figures and all(math.isfinite(value) for value in values), row.name


@pytest.mark.parametrize(
    ("kind", "parameters", "of_text"),
    [
        ("sd15", 859_520_964, 0),
        ("sdxl", 2_567_463_684, 0),
        ("zimage", 6_154_908_736, (2560 - 768) * (3840 + 1)),
        ("flux", 11_901_408_320, (4096 - 768) * 3072),
    ],
)
def test_networks_have_the_published_sizes(kind, parameters, of_text):
    """Parameters of the published checkpoints, less those of a wider text."""
    known = gpu_rows.KINDS[kind]
    made = known.family(known.full).get_model({}, "", device=torch.device("meta"))
    assert sum(p.numel() for p in made.diffusion_model.parameters()) == parameters - of_text


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_narrow_networks_have_the_same_blocks(kind):
    """A rehearsal must meet each block that the true sizes have."""
    known = gpu_rows.KINDS[kind]
    made = [
        known.family(config).get_model({}, "", device=torch.device("meta")) for config in (known.full, known.narrow)
    ]
    paths = [[name for name, _ in model.diffusion_model.named_parameters()] for model in made]
    assert paths[0] == paths[1]
    assert made[0].diffusion_model.out[2].weight.numel() > made[1].diffusion_model.out[2].weight.numel()


def test_extra_waits_have_targets_of_figures_that_are_measured():
    names = {name.removesuffix("_extra_waits") for name in gpu.TARGETS if name.endswith("_extra_waits")}
    assert names and {f"{name}_ratio" for name in names} <= gpu.TARGETS.keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU counts in its own way")
@pytest.mark.parametrize("inference", [False, True])
def test_waits_are_reads_of_values(inference):
    with torch.inference_mode(inference):
        reads_are_counted()


def reads_are_counted():
    x = torch.arange(6.0)
    with counted_waits() as waits:
        y = (x * 2).sum() + x[2:4].mean()
        y = torch.where(x > 2, x, y)
        x[torch.tensor([1, 2])] = 0.0
    assert waits.count == 0
    for read in (lambda: y[0].item(), lambda: bool(y[1] > 0), lambda: x[x > 2], lambda: x.nonzero()):
        with counted_waits() as waits:
            read()
        assert waits.count >= 1
