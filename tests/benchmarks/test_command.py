"""Output and files of `run.py bench`."""

import json
import sys
import types

import pytest
from likeness.benchmarks import command, report


@pytest.fixture
def example(monkeypatch, tmp_path):
    """Benchmark called `example`; returns its recorded arguments and the folder to which full runs publish."""
    asked = []

    def run(quick):
        asked.append(quick)
        return report.Report(
            "example",
            [{"name": "only", "metric": [1.0, 0.5, 1.5]}],
            {"figure": 2.0},
            {"figure": report.Target("at most", 1.0)},
        )

    module = types.ModuleType("likeness.benchmarks.example")
    module.run = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, report.__name__, report)
    monkeypatch.setattr("likeness.benchmarks.report", report, raising=False)
    monkeypatch.setitem(command.BENCHMARKS, "example", "for this test")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    return asked, tmp_path / "results"


def test_quick_only_prints(example, capsys):
    command.main(["example", "--quick"])
    assert example[0] == [True] and not example[1].exists()
    assert "1.000 [0.500, 1.500]" in capsys.readouterr().out


def test_full_runs_alone_are_held_against_targets(example, capsys):
    for arguments, judged in ((["example"], True), (["example", "--quick"], False)):
        command.main(arguments)
        assert ("at most 1: missed" in capsys.readouterr().out) == judged


def test_quick_writes_json_where_it_is_told(example, tmp_path):
    command.main(["example", "--quick", "--json", str(tmp_path / "x.json")])
    assert (
        json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["figures"] == {"figure": 2.0}
        and not example[1].exists()
    )


def test_a_full_run_publishes(example):
    command.main(["example"])
    assert example[0] == [False] and sorted(p.name for p in example[1].iterdir()) == ["example.json", "example.md"]


@pytest.mark.parametrize("kind", [FileNotFoundError, ValueError])
def test_missing_and_truncated_weights_are_one_sentence(example, monkeypatch, kind):
    def run(quick):
        raise kind(f"expected weights, got none (quick {quick}).")

    monkeypatch.setattr(sys.modules["likeness.benchmarks.example"], "run", run)
    with pytest.raises(SystemExit, match=r"^bench example: expected weights, got none"):
        command.main(["example"])


def test_an_unknown_benchmark_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    assert "tinyland" in capsys.readouterr().err
