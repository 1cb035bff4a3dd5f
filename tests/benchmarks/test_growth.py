"""Growth of time and of work."""

import dataclasses

import pytest
import torch
from likeness.benchmarks import flops, growth
from likeness.benchmarks.growth import Axis, Growth
from likeness.benchmarks.networks import tiny_network


def test_exponents_are_of_the_two_largest_sizes():
    found = Growth((1, 2, 4), [5.0, 2.0, 8.0], [1.0, 3.0, 6.0])
    assert found.exponents() == pytest.approx((2.0, 1.0))


def test_each_size_is_made_once_and_timed_in_rounds():
    made, ran = [], []

    def make(size):
        made.append(size)
        return lambda: ran.append(size)

    found = growth.measured(Axis("a", "a", (1, 2), make), rounds=3)
    assert made == [1, 2] and ran == [1, 2] * 4 and found.operations == [0.0, 0.0]


def test_every_axis_runs(monkeypatch, random_weights):
    network = tiny_network(random_weights, 2)
    monkeypatch.setattr(growth, "_network", lambda side: dataclasses.replace(network, side=side // 8))
    monkeypatch.setattr(growth, "SMALL_SIDE", 64)
    with growth.silence(), torch.inference_mode():
        for axis in growth.axes():
            size = 64 if "side" in axis.figure else axis.sizes[0]
            assert flops.counted(axis.run(size)) > 0, axis.name
