"""Stages of a plan: which function does each, on which server, and with which network."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...demo.launcher.files import Problem
from ...patching.evaluation.judge import JUDGE
from . import graphs
from .endpoint import Endpoint
from .plan import TINYLAND_MODEL, Plan
from .prompts import Writer
from .stages import STEPS, Captions, Drawn, Embeds, Filter, Given, Stages, scene_caption, unchanged
from .studio import Studio, WorkflowWriter

ON_SERVER = ("workflow",)
DRAWING = ("collage", "segment", "inpaint", "restyle", "caption")


def needs_server(plan: Plan) -> bool:
    """True if a stage is a workflow."""
    return any(plan.stage(name)["by"] in ON_SERVER for name in ("prompts", *DRAWING))


def needs_prompts(plan: Plan) -> bool:
    """True if a collage, a background or a caption is made of prompts."""
    drawn = any(plan.stage(name)["by"] not in ("folder", "none") for name in ("collage", "inpaint"))
    return drawn or plan.stage("caption")["by"] in ("scene", "endpoint", "workflow", "blip2")


def writer(plan: Plan, stage: str, studio: Studio | None) -> Writer | None:
    """Language model of the stage `prompts` or `caption`; None where none is asked."""
    facts = plan.stage(stage)
    if facts["by"] == "endpoint":
        return Endpoint(facts["url"], facts["model"], facts["key"], facts["temperature"])
    if facts["by"] == "workflow" and studio is not None:
        return WorkflowWriter(studio, graphs.template(facts))
    if facts["by"] == TINYLAND_MODEL:
        from .drawn_world import WorldWriter

        return WorldWriter()
    return None


class _Shared:
    """Network that several workers use, one at a time."""

    def __init__(self, network: Embeds):
        self.network, self._one = network, threading.Lock()

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        with self._one:
            return self.network.pictures(pictures)


def embeds(plan: Plan, weights: Path | None, device: str) -> Embeds | None:
    """Network of the filter, ready for use; None for no filter. Raises Problem."""
    network = plan.stage("filter")["network"]
    if plan.stage("filter")["by"] == "none":
        return None
    from ..evaluate import eyes  # which loads torch, and servers need none

    if network == JUDGE:
        return _Shared(Filter(eyes.JudgeEye()))
    from ...patching.evaluation import metrics  # which loads the host

    wanted = {"model": network, "geometry": metrics.usual(network)}
    return _Shared(Filter(eyes.load(wanted, eyes.folders(weights), device)))


def in_process(plan: Plan, names: Collection[str] = STEPS) -> bool:
    """True if a network of these stages runs in this process."""
    by = [plan.stage(name)["by"] for name in STEPS if name in names]
    return bool({"detector", "network", "blip2", TINYLAND_MODEL} & set(by))


def shared(plan: Plan, weights: Path | None, device: str, names: Collection[str] = STEPS) -> dict[str, Any]:
    """Stages that all workers share, by name, since their networks are in this process."""
    found: dict[str, Any] = {}
    if "segment" in names and plan.stage("segment")["by"] == "detector":
        from . import detected

        found["segment"] = detected.of(plan.stage("segment"), weights, device).segment
    if "caption" in names and plan.stage("caption")["by"] == "blip2":
        from .blip2 import Blip2

        found["caption"] = Captions(Blip2(Path(plan.stage("caption")["path"]), device)).caption
    return found


def of(
    plan: Plan,
    studio: Studio | None,
    embed: Embeds | None,
    others: Mapping[str, Any] | None = None,
    names: Collection[str] = STEPS,
) -> Stages:
    """Stages of a worker.

    studio: its server, or None where no stage is a workflow. others: `shared`. names: of the stages that this worker
    does; the others are not ready.
    """
    if "tinyland" in (plan.stage(name)["by"] for name in DRAWING):
        from . import tinyland

        return tinyland.stages(plan, embed)
    if plan.stage("collage")["by"] == TINYLAND_MODEL:
        from . import drawn_world  # which loads the host

        return drawn_world.stages(plan, embed)
    by = {name: plan.stage(name)["by"] for name in DRAWING if name in names}
    given = Given(plan)
    drawn = Drawn(plan, _there(studio)) if "workflow" in by.values() else None
    functions = {
        "collage": {"folder": given.collage, "none": given.no_collage},
        "segment": {"folder": given.segment},
        "inpaint": {"folder": given.background},
        "restyle": {"none": unchanged},
        "caption": {"folder": given.caption, "template": given.place, "scene": scene_caption},
    }
    if drawn is not None:
        functions["collage"]["workflow"] = drawn.collage
        functions["segment"]["workflow"] = drawn.segment
        functions["inpaint"]["workflow"] = drawn.background
        functions["restyle"]["workflow"] = drawn.restyle
    if "caption" in names and (model := writer(plan, "caption", studio)):
        functions["caption"] |= dict.fromkeys(("endpoint", "workflow"), Captions(model).caption)
    ready = others or {}
    chosen = dict.fromkeys(DRAWING, _elsewhere)
    chosen |= {name: ready[name] if name in ready else functions[name][kind] for name, kind in by.items()}
    return Stages(chosen["collage"], chosen["segment"], embed, chosen["inpaint"], chosen["restyle"], chosen["caption"])


def _elsewhere(*_arguments: Any) -> Any:
    raise AssertionError("another worker does this stage")


def _there(studio: Studio | None) -> Studio:
    if studio is None:
        raise Problem("A stage is a workflow, and there is no server: name one with --server.")
    return studio
