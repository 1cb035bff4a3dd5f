"""Layers that a change wants and that no model call reaches."""

import pytest
from likeness.patching.host.blocks import Layer, names_of
from likeness.patching.host.dit_hook import OVERRIDE, Act, Hook
from likeness.patching.host.family import SelfAttentionChange
from likeness.patching.host.notices import Notices
from likeness.patching.host.reached import Reached, check_read

LAYERS = tuple(Layer("double", n, 0) for n in range(4))


def call(wanted, seen, change=True) -> dict:
    """Options of a model call that has ended."""
    acts = (Act(frozenset(wanted), change=SelfAttentionChange() if change else None),)
    return {OVERRIDE: Hook(None, acts, reached=set(seen))}  # pyright: ignore[reportArgumentType]


def told(*calls) -> tuple[str, ...]:
    reached, notices = Reached(), Notices("Node")
    for before, after in calls:
        reached.note(before, after)
    reached.tell(notices)
    return notices.sentences


def test_a_layer_that_any_call_of_the_run_reaches_is_not_told():
    """Other nodes may evaluate the model again without some blocks, as skip-layer guidance does."""
    assert told(({}, call(LAYERS, LAYERS[:2])), ({}, call(LAYERS, LAYERS[2:]))) == ()
    (sentence,) = told(({}, call(LAYERS, LAYERS[:1])), ({}, call(LAYERS, LAYERS[3:])))
    assert "No effect in double1-2, because another node computes the attention of these blocks" in sentence


def test_readings_and_the_changes_of_other_patches_are_theirs():
    assert told(({}, call(LAYERS, (), change=False))) == ()
    assert told((call(LAYERS[:2], ()), call(LAYERS, LAYERS[2:]))) == ()
    assert told(({}, {}), ({}, {OVERRIDE: print})) == ()


def test_what_is_read_has_to_be_there():
    check_read(LAYERS, LAYERS, "Node")
    with pytest.raises(
        ValueError, match=r"^Node: expected the model to reach double0, double3, got a model call without"
    ):
        check_read(LAYERS, LAYERS[1:3], "Node")


def test_names_of_layers_are_in_call_order():
    more = [Layer("single", 2, 0), Layer("output", 3, 1), Layer("output", 3, 0), Layer("single", 1, 0)]
    assert names_of([*more, *LAYERS]) == "output3, double0-3, single1-2"
