"""Every method on every family of diffusion transformers, against docs/transformers.md."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import comfy.model_patcher
import pytest
import torch
from likeness.patching.host.families import discover, family_of
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.dit_verbs import (
    HEIGHT,
    LENGTHENING,
    PICTURES,
    READINGS,
    SHARING,
    WIDTH,
    Warmer,
    close,
    far,
    network,
    plain,
    positions,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]

PAGE = Path(__file__).parents[2] / "docs" / "transformers.md"
METHODS = (*PICTURES, *READINGS, "positions")


def rows_of_page() -> dict[str, list[str]]:
    """The cells of the first table by the families' names in `tiny_dits`."""
    table = PAGE.read_text("utf-8").split("## ")[1]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert rows[0][2:] == list(METHODS)
    return {name: row[2:] for name, row in zip(tiny_dits.DITS, rows[2:], strict=True)}


@functools.cache
def first_of(dit: str, without: Callable[..., torch.Tensor]) -> torch.Tensor:
    return without(network(dit), dit)


def facts(model) -> str:
    return repr((model.model_options, model.wrappers, model.object_patches, sorted(model.patches)))


def check_calls(method: str, model, other: Warmer, alone: Warmer) -> None:
    """Checks that another pack's override computes the changed attention of every block, and no gradient.

    other, alone: the overrides of a run with the method and of one without it.
    """
    assert not other.graded
    if method in SHARING:
        height, width = family_of(model, "Test").grid((HEIGHT, WIDTH))
        plain = {keys for calls in alone.calls.values() for _, keys in calls}
        made = [keys - plain for keys in other.keys(height * width)]
        assert len(made) == len(discover(model, "Test")) and all(made)
        assert method not in LENGTHENING or all(max(keys) > max(plain) for keys in made)


@pytest.mark.parametrize("method", PICTURES)
def test_pictures(dit, method, monkeypatch):
    """It acts, its neutral value changes no bit, other packs' overrides act too, and nothing is left behind."""
    assert rows_of_page()[dit][METHODS.index(method)] == "works"
    run, without = PICTURES[method]
    model = network(dit)
    expected, before = first_of(dit, without), facts(model)
    found = run(model, dit)
    assert torch.isfinite(found).all() and found.shape == expected.shape and far(found, expected)
    assert torch.equal(run(model, dit, 0.0), expected)
    other, alone = Warmer(), Warmer()
    assert far(run(other.on(model), dit), found)
    without(alone.on(model), dit)
    check_calls(method, model, other, alone)
    assert facts(model) == before and torch.equal(without(model, dit), expected)
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())
    # The sides of guidance in calls of their own, as where memory is short.
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda self, device: 0)
    close(run(model, dit, rows=5)[: len(found)], found)


@pytest.mark.parametrize("method", READINGS)
def test_readings(dit, method):
    assert rows_of_page()[dit][METHODS.index(method)] == "works"
    model, run = network(dit), READINGS[method]
    expected, before = first_of(dit, plain), facts(model)
    found = run(model, dit)
    assert torch.isfinite(found).all() and found.std() > 0
    assert far(run(Warmer().on(model), dit), found)
    assert facts(model) == before and torch.equal(plain(model, dit), expected)


def test_positions(dit):
    same, beside, index = positions(network(dit), dit)
    if rows_of_page()[dit][METHODS.index("positions")] == "works":
        assert far(beside, same) and far(index, same) and far(beside, index)
    else:
        assert torch.equal(same, beside) and torch.equal(same, index)


def test_the_page_explains_every_cell():
    """In both of its tables; test_transformers_inputs.py has the tests of the second."""
    page = PAGE.read_text("utf-8")
    assert {cell for row in rows_of_page().values() for cell in row} == {"works", "A"}
    assert set(re.findall(r"\| (\w) (?=\|)", page)) == set(re.findall(r"^\* \*\*(\w)\*\*", page, re.M))
