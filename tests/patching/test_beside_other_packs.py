"""Every mechanism of other packs beside every node that patches sampling, against docs/beside-other-packs.md."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import comfy.samplers
import pytest
import torch
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.jedi.joint_runs import guider_of
from likeness.tests.patching.layout_and_retouch.retouch_runs import mask, reference, retouched
from likeness.tests.patching.mechanisms import MECHANISMS, SIDE
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SCHEDULE,
    encoded,
    guided,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    sampled,
)
from likeness.tests.patching.two_models import add_lora

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]

PAGE = Path(__file__).parents[2] / "docs" / "beside-other-packs.md"
NODES = ("MultiSourceAttnSwap", "with a layout", "UREMDGuidance", "JointImageSampler", "StepBlendedSampler")
BLOCKS = ("output4", "output10")
"""Also the finest layers, where other packs divide or merge attention."""
TWO_PICTURES = ("context windows",)
"""Mechanisms that change nothing but the rows of a call, with a batch of two."""
VISIBLE = 1e-3
"""The least relative difference of two pictures that counts as an effect."""


def picture_of(model):
    return reference(model, height=SIDE, width=SIDE)


def swapped(model):
    return retouched(model, [picture_of(model)], blocks=BLOCKS, lambda_2=0, lambda_3=0)


def swapped_with_layout(model):
    return retouched(
        model,
        [picture_of(model)],
        blocks=BLOCKS,
        layout=reference(model, seed=25, height=SIDE, width=SIDE),
        layout_negative=encoded(""),
        mask=mask(SIDE, SIDE, value=0.5),
    )


def drawn_again(model):
    blocks = ", ".join(BLOCKS)
    return guided(model, palette(model, blocks=blocks), recorded(), every=2, layout_blocks=blocks)[0]


PATCHES = {"MultiSourceAttnSwap": swapped, "with a layout": swapped_with_layout, "UREMDGuidance": drawn_again}


def noise(name: str) -> torch.Tensor:
    return noise_of(3, 4) if name in TWO_PICTURES else noise_of(3)


def through(guider, start: torch.Tensor) -> torch.Tensor:
    sampler = comfy.samplers.sampler_object("euler")
    return guider.sample(start, torch.zeros_like(start), sampler, torch.tensor(SCHEDULE), disable_pbar=True, seed=0)


def as_set(model, positive, start):
    start = start if len(start) == 2 else noise_of(3, 4)
    texts = [positive, encoded(CAPTION)]
    return through(guider_of(model, texts, [picture_of(model)], negative=encoded("")), start)


def blended(model, positive, start):
    guider = StepBlendedGuider(model, add_lora(model, 0.4), Switch(steps=1), record_blocks=", ".join(BLOCKS))
    guider.set_blended_conds(encoded(CAPTION), positive, encoded(""))
    guider.set_cfg(4.0)
    return through(guider, start)


def run(node: str, name: str, swap_order: bool = False, mechanism=None) -> torch.Tensor:
    """The latents of a node's run beside a mechanism; None for the node alone."""
    model, positive = model_of(), encoded(PROMPT)
    start = noise(name)
    if node in PATCHES:
        if mechanism is None:
            return sampled(PATCHES[node](model), noise=start)
        if swap_order:
            model, positive = mechanism(PATCHES[node](model), positive)
        else:
            model, positive = mechanism(model, positive)
            model = PATCHES[node](model)
        return sampled(model, noise=start, positive=positive)
    if mechanism is not None:
        model, positive = mechanism(model, positive)
    return (as_set if node == "JointImageSampler" else blended)(model, positive, start)


@functools.cache
def alone(node: str, two: bool) -> torch.Tensor:
    return run(node, "context windows" if two else "")


def verdict(node: str, name: str) -> str:
    """`works`, or the sentence that the node raises; an AssertionError for anything else."""
    mechanism = MECHANISMS[name]
    assert mechanism is not None
    results = []
    for swap_order in (False, True) if node in PATCHES and _order_matters(node, name) else (False,):
        try:
            torch.manual_seed(0)  # of mechanisms that draw numbers of their own
            results.append(run(node, name, swap_order, mechanism))
        except ValueError as error:
            results.append(str(error))
    if any(isinstance(found, str) for found in results):
        assert len(set(map(str, results))) == 1, (
            f"{node} beside {name}: one order works, or another sentence: {results}"
        )
        return results[0]
    for other in results[1:]:
        assert relative(other, results[0]) < 1e-4, f"{node} beside {name}: the orders differ"
    found = results[0]
    assert torch.isfinite(found).all(), f"{node} beside {name}: not finite"
    if name in TWO_PICTURES:
        assert relative(found, alone(node, True)) < 1e-4, f"{node} beside {name}: {name} changed the pictures"
        return "works"
    assert relative(found, alone(node, len(noise(name)) == 2)) > VISIBLE, f"{node} beside {name}: {name} had no effect"
    return "works"


def _order_matters(node: str, name: str) -> bool:
    """False where both orders give one MODEL: patches in the same slots, and wrappers called in the same order."""
    mechanism = MECHANISMS[name]
    assert mechanism is not None
    model, positive = model_of(), encoded(PROMPT)
    first = PATCHES[node](mechanism(model, positive)[0])
    second = mechanism(PATCHES[node](model), positive)[0]
    first, second = ([_slots(m.model_options), _slots(m.wrappers)] for m in (first, second))
    return first != second


def _slots(value) -> object:
    """The structure of model_options: its keys in order, and what kind of thing is in each slot."""
    if isinstance(value, dict):
        filled = {key: _slots(entry) for key, entry in value.items()}
        return [(key, entry) for key, entry in filled.items() if entry not in ([], None)]
    if isinstance(value, (list, tuple)):
        return [_slots(entry) for entry in value]
    return getattr(value, "__qualname__", type(value).__qualname__)


def rows_of_page() -> dict[str, list[str]]:
    table = re.findall(r"^\| ([^|]+?) \|[^|]*\|((?: [^|]+ \|)+)$", PAGE.read_text("utf-8"), re.M)
    return {name: [cell.strip() for cell in cells.strip(" |").split("|")] for name, cells in table[1:]}


def reasons_of_page() -> dict[str, str]:
    return dict(re.findall(r"^\* \*\*(\w)\*\* `([^`]+)`", PAGE.read_text("utf-8"), re.M))


PAGE_ROWS, REASONS = rows_of_page(), reasons_of_page()


def test_the_page_has_every_mechanism_and_every_reason():
    assert list(PAGE_ROWS) == list(MECHANISMS)
    cells = {cell for cells in PAGE_ROWS.values() for cell in cells}
    assert cells == {"works", *REASONS} and all(len(cells) == len(NODES) for cells in PAGE_ROWS.values())


@functools.cache
def plain() -> torch.Tensor:
    return sampled(model_of())


# One of each kind of slot, and two that this pack handles in a way of their own.


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_node_does_what_the_page_says(name):
    if MECHANISMS[name] is None:
        pytest.skip("this host lacks the node")
    before = plain()
    for node, cell in zip(NODES, PAGE_ROWS[name], strict=True):
        found = verdict(node, name)
        agrees = found == "works" if cell == "works" else REASONS[cell] in found
        assert agrees, f"{node} beside {name}: the page says {cell}, the run {found}"
        assert found == "works" or re.match(r"[\w -]+: expected .*; [^;]+\.$", found), found
    assert torch.equal(sampled(model_of()), before), f"a plain run after {name} is another"
