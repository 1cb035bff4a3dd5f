"""The measurements of queue, files and pace, with workers that only wait."""

import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.evaluate import pace, simulate
from likeness.lab.farm.crew import Threads


def test_a_second_run_goes_on_and_every_figure_is_there(tmp_path):
    found = simulate.run(tmp_path, workers=3, pictures=500, seconds=0.0, within=60.0)
    assert found["drawn"] == 500 and found["files_in_a_folder"] == 50 and "overhead" not in found
    assert found["driver_peak_mb"] > found["driver_grown_mb"] >= 0
    again = simulate.run(tmp_path, workers=3, pictures=500, seconds=0.0, within=60.0)
    assert again["drawn"] == 0 and again["state_before_s"] > 0


def test_the_overhead_is_what_is_beyond_the_waits(tmp_path, monkeypatch):
    class Slow(simulate.Waits):
        def run(self, task, inputs=None):
            outcome = super().run(task)
            simulate.time.sleep(0.05)
            return outcome

    monkeypatch.setattr(simulate, "Waits", Slow)
    found = simulate.run(tmp_path, workers=1, pictures=500, seconds=0.05, within=0.8)
    assert 5 <= found["drawn"] <= 9 and 0.95 < found["overhead"] < 4


def test_pace_is_the_ratio_of_both(tmp_path, capsys):
    def crew(workers, work):
        assert work == tmp_path / "work"
        return Threads([simulate.Waits(0.2) for _ in range(workers)])

    found = pace.run(tmp_path, 2, 6, crew)
    assert found["ratio"] == pytest.approx(found["2_per_minute"] / found["one_per_minute"])
    assert 1.2 < found["ratio"] < 2.5 and capsys.readouterr().out.count("pictures a minute") == pace.RUNS
    with pytest.raises(Problem, match=r"has pictures of an earlier measurement: name a new folder with --out\.$"):
        pace.run(tmp_path, 2, 6, crew)
    with pytest.raises(Problem, match="got 1 workers and 6 pictures"):
        pace.run(tmp_path, 1, 6, crew)
