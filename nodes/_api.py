"""The pack's single import of ComfyUI's node API, so that a change of the API version is one edit here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from comfy_api.latest import ComfyExtension, io, ui

from ..patching.features.references import INVERSION_STEPS, OWN_SIZE, TRAINING_SIZE
from ..patching.host.notices import Notices, notices_of
from ._aliases import aliases_of
from ._labels import label_of
from ._validate import check, valid

if TYPE_CHECKING:
    from ..patching.host.files import Store

__all__ = [
    "ADVANCED",
    "CATEGORY",
    "DEMO",
    "DIAL",
    "FILES",
    "FIXED",
    "GUIDE",
    "MAPS",
    "SAMPLE",
    "SUBJECT",
    "TELLS",
    "AdaptiveMaskType",
    "ComfyExtension",
    "LoadFile",
    "LossesType",
    "MetricsType",
    "PaletteType",
    "ReferenceType",
    "SubjectPromptType",
    "SubjectType",
    "TemplateType",
    "Trajectory",
    "inversion_steps_input",
    "io",
    "notices",
    "output",
    "prompt_input",
    "schema",
    "size_input",
    "ui",
    "window_inputs",
]

CATEGORY = "Likeness"
SAMPLE, SUBJECT, GUIDE = f"{CATEGORY}/Sample", f"{CATEGORY}/Subject", f"{CATEGORY}/Guide"
MAPS, FILES, DEMO = f"{CATEGORY}/Maps and masks", f"{CATEGORY}/Files", f"{CATEGORY}/Demo"

ADVANCED: dict[str, Any] = {"extra_dict": {"advanced": True}}
"""Keyword arguments that fold an input away as advanced; every host accepts them, older front ends ignore them."""

DIAL: dict[str, Any] = {"display_mode": io.NumberDisplay.slider}
"""Keyword arguments of a number that is turned between nothing and all."""

TELLS = (io.Hidden.unique_id,)
"""Value of `hidden` for a node with `notices`: they need its id."""

FIXED: dict[str, Any] = {"extra_dict": {"control_after_generate": "fixed"}}
"""Keyword arguments that keep a seed unless the user asks for another after each run; older front ends draw one."""

Trajectory = io.Custom("LIKENESS_TRAJECTORY")
"""Every (sigma, latent) of a sampling run's model calls: a `patching.features.trajectory.Trajectory`."""

ReferenceType = io.Custom("LIKENESS_REFERENCE")
"""Pictures to borrow features from: a `patching.features.references.References`."""

AdaptiveMaskType = io.Custom("LIKENESS_ADAPTIVE_MASK")
"""A mask that follows the target from step to step: a `patching.layout_and_retouch.mask.SubjectMask`."""

PaletteType = io.Custom("LIKENESS_PALETTE")
"""A subject's features: a `patching.pick_and_draw.palette.Palette`."""

TemplateType = io.Custom("LIKENESS_TEMPLATE")
"""The place and shape of a subject: a `patching.pick_and_draw.template.Template`."""

SubjectPromptType = io.Custom("LIKENESS_PROMPT")
"""Texts and words of a prompt with one subject: a `patching.host.prompt.SubjectPrompt`."""

SubjectType = io.Custom("LIKENESS_SUBJECT")
"""Photographs of one subject: a `patching.subject.subject.Subject`."""

MetricsType = io.Custom("LIKENESS_METRICS")
"""Networks that measure likeness: a `patching.evaluation.metrics.Metrics`."""

LossesType = io.Custom("LIKENESS_LOSSES")
"""The losses of a guided run: a `patching.pick_and_draw.loss_log.LossLog`."""

_FIELDS = frozenset(field.name for field in dataclasses.fields(io.Schema))


def schema(node_id: str, *, display_name: str, description: str, category: str, **fields: Any) -> io.Schema:
    """An io.Schema without the fields that this host does not know yet, such as `search_aliases` before ComfyUI 0.11.

    One unknown field would make the host drop the whole pack.
    """
    for given in fields.get("inputs", ()):
        given.display_name = given.display_name or label_of(given.id)
    # With the English title, by which a translated node is found, too.
    fields["search_aliases"] = [*aliases_of(node_id), *fields.get("search_aliases", ()), display_name]
    fields |= {"node_id": node_id, "display_name": display_name, "description": description, "category": category}
    # The host appends to the list of some nodes, so that each needs its own.
    fields["hidden"] = [*fields.get("hidden", ())]
    return io.Schema(**{name: value for name, value in fields.items() if name in _FIELDS})


def prompt_input(wording: str) -> io.Input:
    """The input `subject_prompt`, whose wording replaces the widgets `text` and `word`."""
    return SubjectPromptType.Input(
        "subject_prompt",
        optional=True,
        tooltip=(
            f"From Subject Prompt: its {wording} text and word replace the widgets text and word. Neutral: not "
            "connected."
        ),
    )


def window_inputs(start: float = 0.0, end: float = 1.0) -> list[io.Input]:
    """The widgets `start_percent` and `end_percent`, the part of sampling in which a node acts."""
    return [
        io.Float.Input(
            "start_percent",
            default=start,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip=(
                "Start of the node's effect, as a fraction of sampling: 0 is the first step (pure noise), 1 the last "
                "(finished picture)."
            ),
            **ADVANCED,
        ),
        io.Float.Input(
            "end_percent",
            default=end,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip="End of the node's effect, as a fraction of sampling: 1 is the last step.",
            **ADVANCED,
        ),
    ]


def size_input() -> io.Combo.Input:
    """The widget `size` of a picture that features are read from."""
    return io.Combo.Input(
        "size",
        options=[TRAINING_SIZE, OWN_SIZE],
        default=TRAINING_SIZE,
        optional=True,
        tooltip=(
            "training resolution: scaled to the area of the model's training pictures (512 x 512 for SD1.x, 1024 x "
            "1024 for SDXL), in its own shape; a picture of nearly that area stays. own size: never scaled. Neutral: "
            "own size."
        ),
    )


def inversion_steps_input() -> io.Int.Input:
    """The widget `inversion_steps` of pictures that are inverted."""
    return io.Int.Input(
        "inversion_steps",
        default=INVERSION_STEPS,
        min=1,
        max=1000,
        optional=True,
        **ADVANCED,
        tooltip=(
            "Steps of an inversion, one model call each, once per model; a run of more steps raises it. Fewer are "
            "faster and less like the picture. The papers: 50. No neutral value; unused with source noised."
        ),
    )


def notices(node: type[io.ComfyNode]) -> Notices:
    """The Notices of an execution that begins; the node's schema must have `hidden=TELLS`."""
    found: io.Schema = node.SCHEMA or node.define_schema()
    return notices_of(found.display_name, None if node.hidden is None else node.hidden.unique_id)


def output(told: Notices, *values: Any, shown: Any = None) -> io.NodeOutput:
    """A node's output that also carries what it has told, as text, so that the prompt's history keeps it.

    shown: a picture or text of `ui`.
    """
    sentences = told.take()
    if shown is None:
        return io.NodeOutput(*values, ui={"text": sentences}) if sentences else io.NodeOutput(*values)
    parts = shown.as_dict()
    # Always with text: where a node is executed once per entry of a list, the host keeps the keys of the first alone.
    return io.NodeOutput(*values, ui={**parts, "text": (*parts.get("text", ()), *sentences)})


class LoadFile(io.ComfyNode):
    """Base of the nodes that load a saved file. A subclass sets `store` and puts `file_input()` among its inputs."""

    store: ClassVar[Store]

    @classmethod
    def file_input(cls) -> io.Combo.Input:
        """The widget `file`: the saved files below the output folder."""
        return io.Combo.Input(
            "file",
            options=cls.store.names() or [cls.store.nothing],
            tooltip=f"A file below output/{cls.store.folder}.",
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """True, or a sentence for a file that is not there, which the host shows on the node."""
        return valid(check(cls.store.existing, file))

    @classmethod
    def fingerprint_inputs(cls, file: str = ""):
        """Changes when the file does, so that the host loads it again."""
        path = cls.store.path_of(file)
        return None if path is None else (path.stat().st_mtime_ns, path.stat().st_size)
