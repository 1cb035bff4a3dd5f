"""Memory computed from shapes: the same bytes as a real run's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from likeness.benchmarks import gpu_memory
from likeness.benchmarks.memory import PeakMemory, ShapesOnly
from likeness.benchmarks.networks import small_network
from likeness.benchmarks.pick_and_draw_runs import guided, settings
from likeness.benchmarks.timing import plain, silence


@pytest.fixture(scope="module")
def network():
    with torch.inference_mode():
        return small_network(1)


def peaks(run) -> list[int]:
    found = []
    for mode in (PeakMemory, ShapesOnly):
        with torch.inference_mode(), silence(), mode() as memory:
            run()
        found.append(memory.peak)
    return found


def test_a_plain_run_has_the_peak_of_its_shapes(network):
    real, computed = peaks(lambda: plain(network, network.model))
    assert computed == real > 0


def test_a_guided_run_with_its_gradient_has_the_peak_of_its_shapes(network):
    with torch.inference_mode(), silence():
        model = guided(network, settings(network, 1.0, 1.0, all_maps=True))
        plain(network, model, network.personalized_positive)
    real, computed = peaks(lambda: plain(network, model, network.personalized_positive))
    alone, _ = peaks(lambda: plain(network, network.personalized, network.personalized_positive))
    assert computed == pytest.approx(real, rel=0.02) and real > alone


def test_maps_of_coarse_layers_take_less_memory_than_those_of_all(monkeypatch):
    kind = gpu_memory.checkpoints.SD15
    monkeypatch.setattr(gpu_memory, "_KINDS", {kind: gpu_memory._KINDS[kind]})
    with torch.inference_mode():
        figures = gpu_memory.run(quick=True).figures
    coarse, most = (figures[f"{name}_extra_memory_ratio"] for name in ("guided", "guided_all_maps"))
    assert coarse is not None and most is not None and 0 < coarse < most


def test_costly_operations_are_not_computed():
    a = torch.ones(64, 64)
    with ShapesOnly():
        made = a @ a, torch.nn.functional.linear(a, a)
    assert all(x.shape == (64, 64) and not x.eq(64).any() and x.isfinite().all() for x in made)


def test_a_retouch_keeps_features_of_its_reference_and_its_layout(network):
    with torch.inference_mode(), silence():
        banked, sequential = (gpu_memory._retouch(network, mode) for mode in ("banked", "sequential"))
    assert banked.features > sequential.features and banked.tensors <= sequential.tensors


def computed_rows() -> list[dict]:
    root = Path(gpu_memory.__file__).parents[1]
    return json.loads((root / "benchmarks/results/gpu-memory.json").read_text(encoding="utf-8"))["rows"]


def lines_of(page: str) -> list[str]:
    return (Path(gpu_memory.__file__).parents[1] / page).read_text(encoding="utf-8").splitlines()


def test_the_readme_has_the_computed_numbers():
    rows, lines = computed_rows(), lines_of("README.md")
    for method in dict.fromkeys(row["name"].partition(": ")[2] for row in rows):
        same = [row for row in rows if row["name"].endswith(f": {method}")]
        cells = [f"{row[column][0]:.1f}" for row in same for column in ("GPU GiB", "RAM GiB")]
        assert f"| {method} | {' | '.join(cells)} |" in lines


def test_the_help_page_has_the_computed_numbers():
    """A help panel has room for one family in a table."""
    lines = lines_of("web/docs/LikenessSampler.md")
    for row in computed_rows():
        method = row["name"].partition(": ")[2]
        assert f"| {method} | {row['GPU GiB'][0]:.1f} | {row['RAM GiB'][0]:.1f} |" in lines
