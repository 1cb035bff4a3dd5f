"""Twins of the runs in a graph: what ComfyUI alone makes of them, with no node of the pack but the demo's models."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from ...demo.launcher.client import Prompt
from .graphs import BLENDED, GUIDANCE, RETOUCH, SETS
from .prompts import Link, ancestors, bypassed, ending_at, links_of, needed, nodes_of

_SUBJECT, _MAPS = "LikenessSampler", "LikenessAttentionMaps"
_PROBES = (_MAPS, "LikenessLayerProbe", "LikenessCorrespondence")
"""Nodes that call a model without sampling a latent."""
_SAMPLERS = (BLENDED[0], SETS[0], _SUBJECT)
_GUIDERS = (BLENDED[1], SETS[1])
_TEXTS = ("LikenessSubjectPrompt", "LikenessPromptList")
_CORE = ("KSampler", "KSamplerAdvanced", "SamplerCustomAdvanced")
_SIDES = ("", "personalized_")
_COMBINED = "ConditioningCombine"
_ONE_STEP = {"cfg": 1.0, "steps": 1, "sampler": "euler", "scheduler": "normal", "denoise": 1.0}
_NO_BRACES = str.maketrans("", "", "{}")


def runs(prompt: Prompt) -> list[str]:
    """The nodes whose first output is a sampled latent, in the order in which they depend on each other."""
    return nodes_of(prompt, *_CORE, *_SAMPLERS)


def run_with(prompt: Prompt, node: str) -> str | None:
    """The first run that is this node or needs it; None where no run does."""
    if node in nodes_of(prompt, *_PROBES):
        return node
    return next((run for run in runs(prompt) if node in ancestors(prompt, run)), None)


def again(prompt: Prompt, number: int) -> Prompt:
    """The prompt with each run's latent behind a node of this number, so that the host samples anew."""
    made = copy.deepcopy(prompt)
    for run in (*runs(prompt), *nodes_of(prompt, *_PROBES)):
        for name in ("latent", "latent_image"):
            if name in links_of(made[run]):
                inputs = {"latent": made[run]["inputs"][name], "number": number}
                made[f"{run} again"] = {"class_type": "FuzzAgain", "inputs": inputs}
                made[run]["inputs"][name] = [f"{run} again", 0]
    return made


def reworded(prompt: Prompt) -> Prompt:
    """The prompt with other words in each text, under a stronger guidance."""
    made = copy.deepcopy(prompt)
    for entry in made.values():
        inputs = entry["inputs"]
        if isinstance(inputs.get("text"), str):
            inputs["text"] = "\n".join(f"{line} a red house" for line in inputs["text"].split("\n"))
        if isinstance(inputs.get("cfg"), float):
            inputs["cfg"] += 1
    return made


def twins(prompt: Prompt, run: str) -> list[Prompt]:
    """The run without our nodes; a step-blended one has a twin for each of its models."""
    made = [_alone(ending_at(prompt, run), side) for side in _SIDES]
    return made[:1] if made[0] == made[1] else made


def doubled(prompt: Prompt) -> Prompt:
    """The run on two rows: a set makes as many as it has pictures, where some of core's nodes take one alone."""
    made = copy.deepcopy(prompt)
    for run in runs(prompt):
        name = "latent" if "latent" in links_of(made[run]) else "latent_image"
        inputs = {"samples": made[run]["inputs"][name], "amount": 2}
        made[f"{run} rows"] = {"class_type": "RepeatLatentBatch", "inputs": inputs}
        made[run]["inputs"][name] = [f"{run} rows", 0]
    return needed(made)


def parted(prompt: Prompt) -> list[Prompt]:
    """The run with one part of its combined prompts, where it has any.

    Guidance takes a gradient for each part alone, so core can fail at another part first.
    """
    combined = nodes_of(prompt, _COMBINED)
    return [bypassed(prompt, combined, f"conditioning_{part}") for part in (1, 2)] if combined else []


def _alone(prompt: Prompt, side: str) -> Prompt:
    """The prompt with core's nodes in place of ours. side: prefix of the inputs that a step-blended run takes."""
    prompt = bypassed(prompt, nodes_of(prompt, RETOUCH, GUIDANCE))
    shown = {links_of(prompt[node])["latent"][0] for node in nodes_of(prompt, "FuzzResult")}
    made: Prompt = {}
    for node, entry in prompt.items():
        if "guider" in links_of(entry) and entry["class_type"] in _PROBES:
            guider = prompt[entry["inputs"]["guider"][0]]
            entry = {**entry, "inputs": guider["inputs"] | entry["inputs"]}
        for name, new in _core(node, entry, side, node in shown):
            made[name] = new
    for entry in made.values():
        for name, (source, _) in links_of(entry).items():
            if prompt.get(source, {}).get("class_type") in _TEXTS:
                entry["inputs"][name] = [source, 0]
    return needed(made)


def _core(node: str, entry: dict[str, Any], side: str, shown: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A node of core's for one of ours, with the nodes that it needs besides; other nodes stay.

    shown: the node ends the run.
    """
    kind, given = entry["class_type"], entry["inputs"]
    if kind in _TEXTS:
        yield node, _text(given)
    elif kind in _GUIDERS:
        yield node, {"class_type": "CFGGuider", "inputs": {**_wired(given, side), "cfg": given["cfg"]}}
    elif kind == _SUBJECT:
        text = [given["subject_prompt"][0], 0]
        yield node, _sampler(given | {"positive": text, "negative": text}, side)
    elif kind in _SAMPLERS:
        yield node, _sampler(given, side)
    elif kind == _MAPS and shown:
        text = [f"{node} text", 0]
        yield text[0], _text(given)
        yield node, _sampler(given | _ONE_STEP | {"positive": text, "negative": text}, side)
    elif kind in _PROBES and shown:
        yield node, _sampler({"negative": given["positive"]} | given | _ONE_STEP, side)
    elif kind == _MAPS:
        yield node, {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 64}}
    else:
        yield node, entry


def _text(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "class_type": "CLIPTextEncode",
        "inputs": {"clip": given["clip"], "text": given["text"].translate(_NO_BRACES)},
    }


def _sampler(given: dict[str, Any], side: str) -> dict[str, Any]:
    widgets = {name: given[name] for name in ("seed", "steps", "cfg", "scheduler", "denoise")}
    named = {"sampler_name": given["sampler"], "latent_image": given["latent"]}
    return {"class_type": "KSampler", "inputs": {**widgets, **named, **_wired(given, side)}}


def _wired(given: dict[str, Any], side: str) -> dict[str, Link]:
    return {name: given.get(side + name, given[name]) for name in ("model", "positive", "negative")}
