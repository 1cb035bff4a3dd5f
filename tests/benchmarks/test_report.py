"""Intervals against known ones, the JSON form, and the table."""

import json

import numpy as np
import pytest
from likeness.benchmarks import report
from likeness.benchmarks.report import Report, Target, interval_figures, mean_interval, median_interval
from PIL import Image


def test_interval_of_a_mean_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(3.0, 2.0, 900)
    mean, low, high = mean_interval(values)
    half = 1.96 * values.std() / 30
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.1 * half) and high == pytest.approx(mean + half, abs=0.1 * half)


def test_interval_of_a_proportion():
    mean, low, high = mean_interval([1.0] * 475 + [0.0] * 25)
    assert mean == pytest.approx(0.95)
    assert low == pytest.approx(0.95 - 0.0191, abs=0.003) and high == pytest.approx(0.95 + 0.0191, abs=0.003)


def test_whole_subjects_are_drawn():
    means = np.random.default_rng(2).normal(size=40)
    values = np.broadcast_to(means[:, None, None], (40, 5, 5))
    _, low, high = mean_interval(values)
    expected = 2 * 1.96 * means.std() / np.sqrt(40)
    assert high - low == pytest.approx(expected, rel=0.15)
    _, low, high = mean_interval(values.ravel())
    assert high - low < expected / 3, "values drawn one by one have far too narrow an interval"


def test_prompts_are_drawn_within_each_subject():
    prompts = np.random.default_rng(5).normal(size=(30, 6))
    _, low, high = mean_interval(np.broadcast_to(prompts[..., None], (30, 6, 4)))
    between, within = prompts.mean(1).std(), prompts.std(1)
    half = 1.96 * np.sqrt(between**2 / 30 + (within**2).mean() / 180)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    _, low, high = mean_interval(prompts[:1])
    assert (high - low) / 2 == pytest.approx(1.96 * within[0] / np.sqrt(6), rel=0.2), "one subject: its prompts"


def test_the_ends_of_an_interval_are_figures():
    assert interval_figures("gain", [[1.0], [3.0]]) == {"gain": 2.0, "gain_low": 1.0, "gain_high": 3.0}


def test_interval_of_a_median_ignores_an_outlier():
    values = np.r_[np.random.default_rng(3).normal(1.0, 0.01, 60), 50.0]
    median, low, high = median_interval(values)
    assert 0.99 < low < median < high < 1.01


def test_intervals_are_reproducible():
    values = np.random.default_rng(4).random(30)
    assert mean_interval(values) == mean_interval(values) and median_interval(values) == median_interval(values)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [[1.0], [float("inf")]]])
def test_values_that_have_no_interval_are_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        mean_interval(values)


@pytest.fixture
def example():
    rows = [
        {"name": "vanilla", "identity": [0.2, 0.1234567, 0.3]},
        {"name": "a longer name", "layout": [1.5, 1.0, 2.0]},
        {"name": "raw error | at a node", "layout": [1.0]},
    ]
    targets = {"speed": Target("at most", 1.005), "share": Target("at least", 0.95)}
    picture = Image.new("RGB", (8, 8), "red")
    return Report(
        "example",
        rows,
        {"speed": 1.0049, "share": 0.9499, "free": 30000.0},
        targets,
        ("measured so.",),
        picture,
        "A square.",
    )


def test_the_json_has_the_one_form(example):
    data = json.loads(json.dumps(example.as_dict()))
    assert list(data) == ["bench", "commit", "date", "machine", "rows", "figures"]
    assert all(isinstance(data[key], str) and data[key] for key in ("bench", "commit", "date", "machine"))
    assert data["rows"][0] == {"name": "vanilla", "identity": [0.2, 0.12346, 0.3]}
    assert data["figures"] == {"speed": 1.0049, "share": 0.9499, "free": 30000.0}


def test_the_table_is_aligned_and_tells_which_targets_are_met(example):
    lines = report.table(example).splitlines()
    assert "torch" in lines[0]
    head, vanilla, other, _ = lines[2:6]
    assert vanilla.index("0.200") == head.index("identity") == other.index("-")
    assert other.index("1.500") == head.index("layout") == vanilla.rindex("-")
    assert "at most 1.005: met" in report.table(example) and "at least 0.95: missed" in report.table(example)


def test_a_full_run_writes_page_json_and_picture(example, tmp_path):
    paths = report.publish(example, tmp_path)
    assert (
        sorted(p.name for p in tmp_path.iterdir())
        == ["example.jpg", "example.json", "example.md"]
        == sorted(p.name for p in paths)
    )
    page = (tmp_path / "example.md").read_text(encoding="utf-8")
    assert (
        "| vanilla | 0.200 [0.123, 0.300] | - |" in page
        and "* measured so." in page
        and "![A square.](example.jpg)" in page
        and "| raw error \\| at a node | - | 1.000 |" in page
    )
    assert json.loads((tmp_path / "example.json").read_text(encoding="utf-8"))["bench"] == "example"


def test_json_alone(example, tmp_path):
    path = report.write_json(example.as_dict(), tmp_path / "deep" / "x.json")
    assert (
        json.loads(path.read_text(encoding="utf-8"))["figures"] == example.figures
        and len(list(path.parent.iterdir())) == 1
    )


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(example, tmp_path, monkeypatch):
    (tmp_path / "example.json").write_text("old", encoding="utf-8")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        report.publish(example, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["example.json"] and (tmp_path / "example.json").read_text(
        encoding="utf-8"
    ) == "old"


def test_the_error_of_seeds_is_that_of_drawing_them_anew():
    rng = np.random.default_rng(6)
    middle = rng.normal(size=(6, 5, 1))
    drawn = [middle + rng.normal(0, 0.3, (6, 5, 8)) for _ in range(300)]
    errors = [report.seed_error(values) for values in drawn]
    assert np.mean(errors) == pytest.approx(np.std([values.mean() for values in drawn]), rel=0.15)
    assert report.largest_seed_error([drawn[0], 3 * drawn[1], middle[..., 0]]) == {
        "largest_seed_error": pytest.approx(3 * errors[1])
    }
