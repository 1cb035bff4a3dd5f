"""U-Nets compiled by torch.compile: the nodes' hooks stay outside of what is compiled."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from likeness.benchmarks.jedi_costs import pictures
from likeness.benchmarks.layout_and_retouch_runs import layout, steps_of
from likeness.benchmarks.networks import Network, compiled_network, small_network
from likeness.benchmarks.pick_and_draw_runs import template
from likeness.benchmarks.timing import silence
from torch._dynamo.utils import counters


def retouched(network: Network) -> torch.Tensor:
    return steps_of(network, "banked")()[0]["samples"]


def followed(network: Network) -> torch.Tensor:
    return layout(network, "all", 1)[0]["samples"]


def as_set(network: Network) -> torch.Tensor:
    return pictures(network, 2, 1)["samples"]


def maps(network: Network) -> torch.Tensor:
    (levels, *_) = template(network).maps.values()
    return torch.stack([*levels.values()])


@pytest.fixture(autouse=True)
def anew():
    torch._dynamo.reset()
    counters.clear()
    with torch.inference_mode(), silence():
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "method", [retouched, maps, *(pytest.param(method, marks=pytest.mark.full) for method in (followed, as_set))]
)
def test_a_compiled_model_gives_the_same(method):
    network = replace(small_network(2), side=4)
    expected = method(network)
    found = method(compiled_network(network, "eager"))
    assert counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_further_steps_compile_nothing_more():
    """Hooks are made anew for each model call, so a guard on one of them would compile every step."""
    network, graphs = compiled_network(replace(small_network(2), side=4), "eager"), []
    for steps in (2, 6):
        torch._dynamo.reset()  # the host's own options compile runs of another number of steps anew
        counters.clear()
        maps(replace(network, steps=steps))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0
