"""Texts that choose blocks, and the blocks of every family's network."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.patching.host.blocks import Block, Layer, check_names, parse, text_of
from likeness.patching.host.families import discover, family_of, presets
from likeness.patching.tinyland import model as tinyland
from likeness.tests import workflows
from likeness.tests.patching.tiny_models import BLOCKS

SD1 = tuple(
    Block(kind, n, 1)
    for kind, ns in {"input": (1, 2, 4, 5, 7, 8), "middle": (0,), "output": range(3, 12)}.items()
    for n in ns
)
NAMES = [b.name for b in SD1]


def names(text, **options):
    return [b.name for b in parse(text, SD1, "Node", **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ", []),
        ("input4", ["input4"]),
        ("Output3", ["output3"]),
        ("output3-5", ["output3", "output4", "output5"]),
        ("input2-5", ["input2", "input4", "input5"]),
        ("input3-4", ["input4"]),
        ("middle0, input8", ["input8", "middle0"]),
        ("output11,output11 output10-11", ["output10", "output11"]),
        ("encoder", NAMES[:6]),
        ("decoder", NAMES[7:]),
        ("all", NAMES),
        ("decoder, middle0\ninput1", ["input1", "middle0", *NAMES[7:]]),
    ],
)
def test_language(text, expected):
    assert names(text) == expected


@given(st.sets(st.sampled_from(SD1)))
def test_a_text_of_blocks_is_read_as_them(chosen):
    assert set(parse(text_of(chosen, SD1), SD1, "Node")) == chosen


def test_a_text_of_blocks_has_ranges():
    assert text_of(parse("all", SD1, "Node"), SD1) == "input1-8 middle0 output3-11"
    assert text_of(parse("input1 input4 output3-4", SD1, "Node"), SD1) == "input1 input4 output3-4"


def test_paper_is_what_the_node_says_and_the_model_has():
    assert names("paper", own={"paper": ("output6", "output99", "input1")}) == ["input1", "output6"]


def test_demo_is_what_the_demo_s_network_states_and_refused_on_others(model):
    network, _, _ = tinyland.load()
    for name, expected in tinyland.TUNED_BLOCKS.items():
        found = parse("demo", discover(network, "Node"), "Node", presets(network, name, "Node"))
        assert tuple(block.name for block in found) == expected
        with pytest.raises(ValueError, match=r"all(, paper)?, got 'demo'; change layout_blocks"):
            parse("demo", discover(model, "Node"), "Node", presets(model, name, "Node"), "layout_blocks")


def test_shipped_workflows_name_no_blocks_of_the_demo_s_network():
    """On another checkpoint the same names are other layers; demo is refused there."""
    for name in (*workflows.NAMES, *workflows.TEMPLATES):
        for node in workflows.api(name).values():
            texts = {key: value for key, value in node["inputs"].items() if "blocks" in key and isinstance(value, str)}
            assert not [value for value in texts.values() if re.search(r"\d", value)], (name, texts)


@pytest.mark.parametrize(("options", "known"), [({"paper": True}, True), ({"demo": True}, True), ({}, False)])
def test_a_widget_without_presets_of_its_own_refuses_them_when_queued(options, known):
    if known:
        check_names("demo, output3", "Node", **options)
    else:
        with pytest.raises(ValueError, match="got 'demo'"):
            check_names("demo, output3", "Node", **options)


@pytest.mark.parametrize(
    "text", ["input3", "output12", "output3-12", "output5-4", "middle1", "input", "paper", "foo", "output-3", "all, x1"]
)
def test_what_the_model_does_not_have_is_refused_with_a_list(text):
    with pytest.raises(ValueError) as error:
        parse(text, SD1, "SomeNode")
    message = str(error.value)
    assert (
        message.startswith("SomeNode: expected blocks among input1, input2")
        and "output11" in message
        and "got '" in message
    )
    assert message.count(".") == 1 and "change blocks" in message


def transformer(double, single):
    return tuple(Block(kind, n, 1) for kind, count in (("double", double), ("single", single)) for n in range(count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("double1-2, single0", ["double1", "double2", "single0"]),
        ("early", ["double0", "double1", "double2"]),
        ("late", ["single0", "single1", "single2"]),
        ("vital", ["single0", "single1", "single2"]),
        ("content", ["single0", "single1", "single2"]),
        ("all", ["double0", "double1", "double2", "single0", "single1", "single2"]),
    ],
)
def test_language_of_transformers(text, expected):
    assert [b.name for b in parse(text, transformer(3, 3), "Node")] == expected


def test_published_sets_of_flux1():
    flux = transformer(19, 38)
    vital, content = ([b.name for b in parse(name, flux, "Node")] for name in ("vital", "content"))
    assert vital == [*(f"double{n}" for n in (0, 1, 2, 17, 18)), *(f"single{n}" for n in (6, 9, 34, 35, 37))]
    # FreeFlux counts all blocks in a row, single blocks from 19 on.
    rows = (0, 7, 8, 9, 10, 18, 25, 28, 37, 42, 45, 50, 56)
    assert content == [f"double{n}" if n < 19 else f"single{n - 19}" for n in rows]


@pytest.mark.parametrize("text", ["output3", "encoder", "decoder", "double3", "block0", "paper"])
def test_names_of_other_networks_are_refused_on_a_transformer(text):
    with pytest.raises(ValueError, match=r"among double0, double1, .* or one of early, late, .*, all, got"):
        parse(text, transformer(2, 2), "Node")


@pytest.mark.parametrize("text", ["double0", "early", "vital"])
def test_names_of_transformers_are_refused_on_a_u_net(text):
    with pytest.raises(ValueError, match=r"among input1, .* or one of encoder, decoder, all, got"):
        parse(text, SD1, "Node")
    check_names(text, "Node")  # before the model is known


@given(st.lists(st.sampled_from([*NAMES, "encoder", "all", "output3-8", "input1-5"]), max_size=6))
def test_the_order_of_words_is_irrelevant(words):
    chosen = parse(",".join(words), SD1, "Node")
    assert chosen == parse(" ".join(reversed(words)), SD1, "Node")
    assert list(chosen) == [b for b in SD1 if b in chosen]


def test_layers():
    assert Block("output", 2, 2).layers == (Layer("output", 2, 0), ("output", 2, 1))


def test_discovery(family, model):
    assert [(b.name, b.depth) for b in discover(model, "Node")] == BLOCKS[family]


def test_another_family_is_refused_by_name(model):
    class Flux:
        diffusion_model = None

    other = model.clone()
    other.model, other.object_patches = Flux(), {"diffusion_model": torch.nn.Linear(1, 1)}
    with pytest.raises(
        ValueError, match=r"Node: expected a U-Net image model .* got Flux, .*connect another checkpoint"
    ):
        family_of(other, "Node")
