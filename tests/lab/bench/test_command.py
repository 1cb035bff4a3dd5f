"""What `run.py bench` refuses to spread over workers, and which benchmarks it can."""

import importlib
import importlib.util

import pytest
from likeness.benchmarks import command as benchmarks
from likeness.demo.launcher.files import Problem
from likeness.lab.bench import command
from likeness.lab.bench.cells import Cells, task


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", [name for name in benchmarks.BENCHMARKS if name != "fuzz"])
def test_what_can_be_spread_has_sweeps(name):
    module = importlib.import_module(f"likeness.benchmarks.{name.replace('-', '_')}")
    assert hasattr(module, "sweeps") == (name in benchmarks.SPREAD)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["overhead", "--workers", "2"], r"^bench overhead: .* and overhead has none: leave them out\.$"),
        (["jedi", "--workers", "0"], r"^bench jedi: --workers is 0, expected 1 or more"),
        (["jedi", "--workers", "2", "--per-gpu", "2"], r"^bench jedi: --per-gpu shares the GPUs that Ray finds"),
    ],
)
def test_what_cannot_be_spread_is_one_sentence(arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        command.main([*arguments, "--quick"])


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(benchmarks, "run", lambda _options: pytest.fail("it went on"))
    with pytest.raises(SystemExit, match=r"^bench jedi: There is no Ray in .*: start this with `run\.py`"):
        command.main(["jedi", "--quick", "--ray", "local"])


def test_a_cell_of_other_code_is_refused():
    with pytest.raises(Problem, match="does not know the cell jedi-0/a: put the same code and weights"):
        Cells("likeness.benchmarks.jedi", True, 1).run(task("jedi-0/a"))
