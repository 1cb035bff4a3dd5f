"""Workflows saved before inputs were added: they load, and the same arguments reach the patching functions.

saved_graphs.json holds this pack's nodes of four shipped workflows as they were, in both formats.
"""

import dataclasses
import json
from pathlib import Path

import pytest
from likeness.nodes import _joint, multi_source_attn_swap, node_classes, template, uremd_guidance
from likeness.nodes._api import io

SAVED = json.loads(Path(__file__).with_name("saved_graphs.json").read_text(encoding="utf-8"))
NODES = {node.GET_SCHEMA().node_id: node for node in node_classes()}
WIDGETS = io.Int.Input | io.Float.Input | io.String.Input | io.Combo.Input | io.Boolean.Input
BUILDERS = {
    "MultiSourceAttnSwap": (multi_source_attn_swap, "retouch"),
    "UREMDGuidance": (uremd_guidance, "guide"),
    "LayoutTemplate": (template, "record_template"),
    "JointImageSampler": (_joint, "joint_guider"),
    "LikenessJointGuider": (_joint, "joint_guider"),
}
LATER = {
    "MultiSourceAttnSwap": {"lambdas_by": "step"},
    "UREMDGuidance": {"decay_over": "sampling", "subject_prompt": None},
    "LayoutTemplate": {"subject_prompt": None},
    "JointImageSampler": {"clip": None},
    "LikenessJointGuider": {"clip": None},
}
"""Inputs that these graphs lack, with the values that change nothing; None where the argument may be absent."""
USED_LATER = {"JointImageSampler": ("seed", "steps", "sampler", "scheduler", "denoise"), "LayoutTemplate": ("boxes",)}
"""Inputs that the node itself uses, not the function."""
CASES = [
    pytest.param(entry, graph["ui"][number], id=f"{name}-{entry['class_type']}")
    for name, graph in SAVED.items()
    for number, entry in graph["api"].items()
]


class Reached(Exception):
    """Carries the arguments that reached a patching function."""


def arguments_of(monkeypatch, name: str, inputs: dict) -> dict:
    """The arguments with which a node calls its patching function, with the fields of settings beside them."""
    module, function = BUILDERS[name]

    def reached(*args, **kwargs):
        raise Reached(args, kwargs)

    monkeypatch.setattr(module, function, reached)
    monkeypatch.setattr(module, "check_vae", lambda *_: None, raising=False)
    linked = {key: object() if isinstance(value, list) else value for key, value in inputs.items()}
    if NODES[name].GET_SCHEMA().is_input_list:
        linked = {key: [value] for key, value in linked.items()}
    with pytest.raises(Reached) as caught:
        NODES[name].execute(**linked)
    args, kwargs = caught.value.args
    found = dict(kwargs)
    for value in (*args, *kwargs.values()):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return found


@pytest.mark.parametrize(("saved", "drawn"), CASES)
def test_values_by_position_are_those_by_name(saved, drawn):
    """The graph editor stores values by position, and gives the rest their defaults."""
    schema = NODES[saved["class_type"]].GET_SCHEMA()
    ordered = [w for optional in (False, True) for w in schema.inputs if w.optional is optional]
    names = []
    for widget in ordered:
        if isinstance(widget, WIDGETS):
            described = widget.as_dict()
            names += [widget.id, "(after a run)"] if described.get("control_after_generate") else [widget.id]
    values = dict(zip(names, drawn["widgets_values"], strict=False))
    assert len(names) >= len(drawn["widgets_values"])
    for name, value in saved["inputs"].items():
        if not isinstance(value, list):
            assert values[name] == value, name


@pytest.mark.parametrize(("saved", "drawn"), [case for case in CASES if case.values[0]["class_type"] in BUILDERS])
def test_the_same_arguments_reach_the_patching_functions(monkeypatch, saved, drawn):
    name, inputs = saved["class_type"], saved["inputs"]
    found = arguments_of(monkeypatch, name, inputs)
    for key, value in inputs.items():
        if not isinstance(value, list) and key not in USED_LATER.get(name, ()):
            assert found[key] == value, key
    for key, value in LATER[name].items():
        assert key not in inputs
        assert found.get(key) == value, key
