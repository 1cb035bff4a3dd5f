"""Widgets that cannot work are refused by the host before anything runs, in one sentence that the node shows."""

import asyncio
import re

import execution
import pytest
from likeness.nodes import node_classes
from likeness.nodes._api import io
from likeness.tests.titles import TITLES

import nodes

NODES = {node.GET_SCHEMA().node_id: node for node in node_classes()}
TEXT = {"text": "a photo of a sks dog", "word": "dog"}
LINKED = {
    "AdaptiveMask": {"subject_mask": "MASK", "clip": "CLIP"},
    "AppearancePalette": {"image": "IMAGE"},
    "UREMDGuidance": {"palette": "LIKENESS_PALETTE"},
    "LikenessSegment": {"heatmap": "MASK"},
    "LikenessKeepBest": {"scores": "FLOAT"},
}
"""Optional inputs that the node needs one of."""
REFUSED = {
    "another word": ("LikenessAttentionMaps", {"word": "cat"}, {}, "expected a word of the prompt (a, photo, of, sks,"),
    "part of a word": ("LayoutTemplate", {"word": "do"}, {}, "got 'do'; change word"),
    "no word": ("UREMDGuidance", {"word": " "}, {}, "got none; change word"),
    "no text": ("UREMDGuidance", {"text": ""}, {}, "expected a prompt, got an empty one; write the prompt"),
    "a mask's word": ("AdaptiveMask", {"word": "cat"}, {}, "got 'cat'; change word"),
    "a palette's word": ("AppearancePalette", {"word": "cat"}, {}, "got 'cat'; change word"),
    "unknown block": ("MultiSourceAttnSwap", {"blocks": "decoderr"}, {}, "decoder, all, paper, got 'decoderr'"),
    "reversed range": ("LikenessAttentionMaps", {"blocks": "output8-3"}, {}, "got 'output8-3'; change blocks"),
    "preset of others": ("UREMDGuidance", {"layout_blocks": "paper"}, {}, "got 'paper'; change layout_blocks"),
    "no block": (
        "LikenessSaveReference",
        {"blocks": ""},
        {},
        "expected at least one block, got none; write paper into",
    ),
    "recorded blocks": ("StepBlendedSampler", {"record_blocks": "x"}, {}, "got 'x'; change record_blocks"),
    "guider's blocks": ("LikenessStepBlendedGuider", {"record_blocks": "x"}, {}, "got 'x'; change record_blocks"),
    "a set's blocks": ("JointImageSampler", {"blocks": "x"}, {}, "got 'x'; change blocks"),
    "late switch": ("StepBlendedSampler", {"switch_step": 51}, {}, "switch_step within the run's 50 steps, got 51"),
    "a number out of range": ("StepBlendedSampler", {"steps": 0}, {}, "expected steps from 1 to 10000, got 0"),
    "an unknown choice": ("MultiSourceAttnSwap", {"early_swap": "x"}, {}, "expected early_swap among fork, "),
    "lambdas": ("MultiSourceAttnSwap", {"lambda_3": 3}, {}, "expected lambda_3 not below lambda_2, got 3 and 10"),
    "a mask alone": ("MultiSourceAttnSwap", {}, {"mask": "MASK"}, "expected a layout for the mask to blend with"),
    "reversed window": ("LikenessAttentionMaps", {"start_percent": 0.9}, {}, "got 0.9 and 0.8; swap them"),
    "empty window": ("LayoutTemplate", {"start_percent": 1.0}, {}, "expected start_percent below end_percent"),
    "boxes": ("LayoutTemplate", {"boxes": "0.5 0 0.1 1"}, {}, "expected four fractions per line of boxes"),
    "boxes and mask": ("LayoutTemplate", {"boxes": "0 0 1 1"}, {"mask": "MASK"}, "expected a mask or boxes, got both"),
    "two pictures": ("AppearancePalette", {}, {"latent": "LATENT"}, "expected a picture, as image with vae or as"),
    "no clip": ("AdaptiveMask", {}, {"clip": None}, "expected clip, text and word for attention per_step, got no clip"),
    "nothing to follow": ("UREMDGuidance", {}, {"palette": None}, "expected a palette or a template, got neither"),
    "a link of another type": ("UREMDGuidance", {}, {"palette": "IMAGE"}, "expected LIKENESS_PALETTE for palette, got"),
    "no references": ("LikenessJointGuider", {"guidance": "text_first"}, {}, "expected references for guidance text_"),
    "a subject alone": (
        "JointImageSampler",
        {},
        {"references": "LIKENESS_SUBJECT", "vae": "VAE"},
        "expected vae and subject_prompt beside a SUBJECT, got no subject_prompt; connect subject_prompt.",
    ),
    "a subject and a mask": (
        "LikenessReference",
        {},
        {"image": "LIKENESS_SUBJECT", "mask": "MASK"},
        "expected no mask beside a SUBJECT, which has masks of its own",
    ),
    "no picture": ("LikenessReference", {}, {"image": "MASK"}, "expected IMAGE,LIKENESS_SUBJECT for image, got MASK"),
    "blocks to test": (
        "LikenessLayerProbe",
        {"blocks": "x"},
        {},
        "encoder, decoder, all, got 'x'; change blocks",
    ),
    "no block to test": ("LikenessLayerProbe", {"blocks": ""}, {}, "expected at least one block, got none; write all"),
    "a share of more than half": ("LikenessLayerProbe", {"share": 0.6}, {}, "expected share from 0.01 to 0.5, got 0.6"),
    "points": ("LikenessSegment", {"inside": "3"}, {}, "expected inside as x,y; x,y in pixels, got '3'"),
    "no prompt": ("LikenessPromptList", {"text": "\n \n"}, {}, "expected at least one prompt, got none"),
    "no saved file": (
        "LikenessLoadPalette",
        {"file": "none saved yet: use Save Palette"},
        {},
        "save one with Save Pal",
    ),
    "a missing file": ("LikenessLoadReference", {"file": "../x.safetensors"}, {}, "got '../x.safetensors'; save one"),
    "a name outside": ("LikenessSaveTemplate", {"filename_prefix": "../../x"}, {}, "got '../../x'; change filename_"),
    "no checkpoint": ("LikenessLoadJointCheckpoint", {"ckpt_name": "(no checkpoints found)"}, {}, "put one there"),
    "no network": ("LikenessMetrics", {"identity": "dino-vits8"}, {}, "got no folder with config.json, "),
    "no network for prompts": (
        "LikenessMetrics",
        {"identity": "tinyland-judge", "prompt": "clip-vit-large-patch14"},
        {},
        "expected the weights clip-vit-large-patch14 (1.7 GB, MIT) in ",
    ),
    "an unknown network": ("LikenessMetrics", {"identity": "x"}, {}, "expected identity among clip-vit-base-patch32, "),
    "a geometry of the judge": (
        "LikenessMetrics",
        {"identity": "tinyland-judge", "geometry": "clip-224"},
        {},
        "expected geometry usual for tinyland-judge, got clip-224",
    ),
    "no area": ("LikenessCutOut", {"minimum_area": 0.9}, {}, "expected minimum_area below maximum_area, got 0.9 and"),
    "a part": ("LikenessCutOut", {"parts": "x"}, {}, "expected parts among each mask, each connected part, got x"),
    "no segmenter": ("LikenessSegment", {"checkpoint": "x.pth"}, {}, "got 'x.pth'; download one there"),
}
ACCEPTED = {
    "a word beside a mask": ("AppearancePalette", {"word": "cat"}, {"mask": "MASK"}),
    "a word beside boxes": ("LayoutTemplate", {"word": "", "boxes": "0 0 1 1"}, {}),
    "a word of a fixed mask": ("AdaptiveMask", {"attention": "recorded", "word": "", "text": ""}, {"clip": None}),
    "a linked word": ("LikenessAttentionMaps", {}, {"word": "STRING"}),
    "linked blocks": ("MultiSourceAttnSwap", {}, {"blocks": "STRING"}),
    "weights and capitals": ("UREMDGuidance", {"text": "a (Sks Dog:1.2), running", "word": "sks dog"}, {}),
    "neutral blocks": ("MultiSourceAttnSwap", {"blocks": ""}, {}),
    "a switch by percent": ("StepBlendedSampler", {"switch_by": "percent", "switch_step": 99}, {}),
    "a subject in a set": (
        "LikenessJointGuider",
        {},
        {"references": "LIKENESS_SUBJECT", "vae": "VAE", "subject_prompt": "LIKENESS_PROMPT"},
    ),
    "a subject": ("LikenessReference", {}, {"image": "LIKENESS_SUBJECT"}),
    "a list of presets": ("UREMDGuidance", {"map_blocks": "Encoder, output3-8;paper"}, {}),
}


class Source:
    """Gives outputs of all types that a test asks for."""

    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}


def refusals(monkeypatch, name: str, changes: dict, links: dict) -> list[str]:
    """The details of the host's errors for a node with links to every required input, and default widgets."""
    inputs, types = {}, []

    def link(key: str, kind: str) -> None:
        types.append(kind)
        inputs[key] = ["source", len(types) - 1]

    for entry in NODES[name].GET_SCHEMA().inputs:
        if isinstance(entry, io.Combo.Input):
            inputs[entry.id] = entry.default if entry.default is not None else entry.options[0]
        elif isinstance(entry, io.Autogrow.Input):
            for one in entry.template.get_all()[: getattr(entry.template, "min", 0)]:
                link(f"{entry.id}.{one.id}", one.get_io_type())
        elif entry.id in TEXT or hasattr(entry, "default"):
            inputs[entry.id] = TEXT.get(entry.id, entry.default)
        elif not entry.optional:
            link(entry.id, entry.get_io_type())
    inputs |= changes
    for key, kind in {**LINKED.get(name, {}), **links}.items():
        if kind is not None:
            link(key, kind)
    known = {
        **nodes.NODE_CLASS_MAPPINGS,
        name: NODES[name],
        "Source": type("Given", (Source,), {"RETURN_TYPES": types}),
    }
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", known)
    prompt = {
        "node": {"class_type": name, "inputs": {k: v for k, v in inputs.items() if v is not None}},
        "source": {"class_type": "Source", "inputs": {}},
    }
    good, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "node", {}))
    assert good == (not errors)
    return [error["details"] for error in errors]


@pytest.mark.parametrize("case", REFUSED)
def test_a_widget_that_cannot_work_is_refused(monkeypatch, case):
    name, changes, links, expected = REFUSED[case]
    said = {detail.split(" - ", 1)[1] for detail in refusals(monkeypatch, name, changes, links)}
    (sentence,) = said
    assert expected in sentence
    assert re.match(rf"{TITLES[name]}: expected [^\n]*, got [^\n]*; [^\n]*\.$", sentence)


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_widget_that_works_is_accepted(monkeypatch, case):
    assert refusals(monkeypatch, *ACCEPTED[case]) == []


@pytest.mark.parametrize("name", sorted(set(NODES) - {n for n in NODES if "Load" in n}))
def test_defaults_are_accepted(monkeypatch, name):
    special = {
        "LikenessSegment": {"checkpoint": None},
        "LikenessSubjectPrompt": {"text": "a photo of {a dog}"},
        "LikenessMetrics": {"identity": "tinyland-judge"},
    }
    changes = special.get(name, {})
    assert [d for d in refusals(monkeypatch, name, changes, {}) if "checkpoint" not in d] == []
