"""`run.py bench host-options` on the running ComfyUI, which has no further option."""

import copy

import numpy as np
import pytest
from likeness.benchmarks import host_options


@pytest.fixture(scope="module")
def prompt():
    found = host_options.shorter(host_options.PLAIN)
    for node in found.values():
        node["inputs"] |= {
            key: value for key, value in {"steps": 2, "width": 64, "height": 64}.items() if key in node["inputs"]
        }
    return found


def test_pictures_are_drawn_and_compared(client, prompt):
    other = copy.deepcopy(prompt)
    for node in other.values():
        if "seed" in node["inputs"]:
            node["inputs"]["seed"] += 7
    usual, failed = host_options.pictures(client, {"same": prompt, "other": other})
    assert not failed and len(usual["same"]) == 2
    found, _ = host_options.pictures(client, {"same": prompt, "other": prompt})
    means, largest = host_options.differences(usual, found)
    assert means["same"] == 0 and means["other"] > 0
    assert largest == max(float(np.abs(a - b).max()) for a, b in zip(usual["other"], found["other"], strict=True))


def test_failed_runs_are_told(client, prompt):
    wrong = copy.deepcopy(prompt)
    for node in wrong.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = -1
    found, (sentence,) = host_options.pictures(client, {"wrong": wrong})
    assert not found and sentence.startswith("wrong: ")


def test_pictures_are_alike_where_number_and_pixels_are():
    black, white = np.zeros((2, 2, 3)), np.ones((2, 2, 3))
    assert host_options.alike([black, white], [black, white])
    assert not host_options.alike([black], [white]) and not host_options.alike([black], [black, black])


def test_pictures_of_several_sizes_are_compared():
    usual = {"a": [np.zeros((2, 2, 3)), np.zeros((4, 1, 3))]}
    found = {"a": [np.zeros((2, 2, 3)), np.full((4, 1, 3), 8.0)]}
    assert host_options.differences(usual, found) == ({"a": 4.0}, 8.0)
    assert host_options.differences(usual, {"a": found["a"][:1]}) == ({}, 0.0)
    assert host_options.differences({"a": []}, {"a": []}) == ({}, 0.0)
