"""List of the pictures of nodes that store, load or measure. Standard library alone."""

from __future__ import annotations

from dataclasses import replace

from .help_panels import Panel, Picture, dial, row

PLAIN = {"17.model": ["1", 0], "17.text": ["2", 3], "3.text": ["2", 3]}
OF_VANILLA = {"14.model": ["1", 0], "14.text": ["2", 3], **PLAIN}
WEAK = {"2.strength": 0.6}
RIGHT = {"8.seed": 3}
MOVED = {"17.layout_blocks": "demo", "17.layout_end": 0.5}
PALETTE = Panel("save_palette", "30", OF_VANILLA)
REFERENCE = Panel("store_reference", "26", WEAK)
TEMPLATE = Panel("save_template", "30", RIGHT)
LAYOUT = Panel("store_layout", "30", {"8.switch_step": 25})
"""Nodes that save, whose files the loaders' graphs read."""
RECORDED = Panel(
    "step_blended_guider",
    "16",
    added={
        "16": {"class_type": "LikenessSaveTrajectory", "inputs": {"filename_prefix": "run", "trajectory": ["14", 0]}}
    },
)
PHOTO = {"30": {"class_type": "ImageFromBatch", "inputs": {"batch_index": 0, "length": 1, "image": ["2", 1]}}}
"""One photograph, to which the others and the pictures are compared."""


def of_file(panel: Panel, *parts: str) -> tuple[Panel, ...]:
    """Panels of a file's parts."""
    return tuple(replace(panel, part=part) for part in parts)


def over_run(panel: Panel, word: str, count: int = 4) -> tuple[Panel, ...]:
    """Panels of what a file holds at noise levels from the highest to the lowest."""
    return of_file(panel, *(f"{word} {index / (count - 1):.3f}" for index in range(count)))


def measured(images: list, picture: int, **changes) -> Panel:
    """A picture with its cosine to one photograph, by the demo's judge."""
    return Panel(
        "keep_best",
        f"{images[0]}.{images[1]}",
        {"21.references": ["30", 0], "21.images": images, **changes},
        picture=picture,
        added=PHOTO,
        score="21.0",
    )


VANILLA = {"6.model": ["1", 0], "3.text": ["2", 3]}
STORED: dict[str, tuple[Picture, ...]] = {
    "LikenessSavePalette": (
        row(
            "LikenessSavePalette",
            "What the file holds: the picture, the subject's area, and its features at noise levels from high to low.",
            *of_file(PALETTE, "picture", "mask"),
            *over_run(PALETTE, "features", 3),
        ),
    ),
    "LikenessLoadPalette": (
        row(
            "LikenessLoadPalette",
            "One seed: unguided, guided by a new palette, and by the one in the file. The last two are equal.",
            Panel("use_saved_palette", "19", {**PLAIN, "18.model": ["1", 0]}),
            Panel("save_palette", "19", OF_VANILLA),
            Panel("use_saved_palette", "19", PLAIN),
            first=(PALETTE,),
        ),
    ),
    "LikenessSaveReference": (
        row(
            "LikenessSaveReference",
            "What the file holds at four noise levels. Above: the inverted picture. Below: its features as colors.",
            *over_run(REFERENCE, "inversion"),
            *over_run(REFERENCE, "features"),
        ),
    ),
    "LikenessLoadReference": (
        row(
            "LikenessLoadReference",
            "One seed: the LoRA alone, with a new reference, and with the one in the file. The last two are equal.",
            Panel("use_stored_reference", "19", {**WEAK, "18.model": ["2", 0]}),
            Panel("store_reference", "19", WEAK),
            Panel("use_stored_reference", "19", WEAK),
            first=(REFERENCE,),
        ),
    ),
    "LikenessSaveTemplate": (
        row(
            "LikenessSaveTemplate",
            "The template image, and the maps of *fish* in two of the file's blocks, at noise levels from high to low.",
            Panel("save_template", "9", RIGHT),
            *over_run(TEMPLATE, "map"),
        ),
    ),
    "LikenessLoadTemplate": (
        row(
            "LikenessLoadTemplate",
            "The template image. Then two LoRAs, each alone and guided by the file: their subjects move to the right.",
            Panel("save_template", "9", RIGHT),
            *(
                Panel("use_saved_template", "19", {"2.subject": subject, **changes})
                for subject in ("nemo", "bouncer")
                for changes in ({"18.model": ["2", 0]}, MOVED)
            ),
            first=(TEMPLATE,),
        ),
    ),
    "LikenessSaveTrajectory": (
        row(
            "LikenessSaveTrajectory",
            "What the file holds at four noise levels. Above: the latent, decoded. Below: its features as colors.",
            *over_run(LAYOUT, "latent"),
            *over_run(LAYOUT, "features"),
        ),
    ),
    "LikenessLoadTrajectory": (
        row(
            "LikenessLoadTrajectory",
            "The layout in the file, a photograph, and the picture with this layout and the photograph's look.",
            Panel("store_layout", "9", LAYOUT.changes),
            Panel("use_stored_layout", "11"),
            Panel("use_stored_layout", "19", WEAK),
            first=(LAYOUT,),
        ),
    ),
    "LikenessRecordedTrajectory": (
        row(
            "LikenessRecordedTrajectory",
            "What the guider recorded: its latents, decoded, at noise levels from high to low.",
            *over_run(RECORDED, "latent", 5),
        ),
    ),
    "LikenessLoadJointCheckpoint": (
        row(
            "LikenessLoadJointCheckpoint",
            "The demo's joint model from a file: a photograph, then one picture of a set with strength 0 and with 1.",
            Panel("load_joint_checkpoint", "6"),
            *(
                Panel(
                    "load_joint_checkpoint",
                    "10",
                    {"9.strength": strength, "10.vae": ["13", 2], "7.vae": ["13", 2]}
                    | {f"{number}.clip": ["13", 1] for number in (3, 4, 5)},
                )
                for strength in (0, 1)
            ),
        ),
    ),
    "LikenessMetrics": (
        row(
            "LikenessMetrics",
            "A photograph. Then two more, a LoRA's picture, and the vanilla model's, with their cosines to the first.",
            Panel("keep_best", "30", added=PHOTO),
            measured(["2", 1], 1),
            measured(["2", 1], 2),
            measured(["7", 0], 0),
            measured(["7", 0], 0, **VANILLA),
        ),
    ),
    "LikenessScore": (
        row(
            "LikenessScore",
            "A photograph, then four seeds of its LoRA, each with its IDENTITY.",
            Panel("keep_best", "30", added=PHOTO),
            *(Panel("keep_best", "7", picture=index, batch=8, score="21.0") for index in range(4)),
        ),
    ),
    "LikenessSegment": (
        row(
            "LikenessSegment",
            "The photograph, the heat of *fish*, and the point and the box that the network gets.",
            Panel("segment", "11"),
            Panel("segment", "13"),
            Panel("segment", "28"),
        ),
        dial(
            "LikenessSegment",
            *("segment", "28", "28.threshold", (0.1, 0.3, 0.5, 0.7)),
            caption="**Threshold of the map**: the box around the heat.",
        ),
    ),
}
"""{node: its pictures, the one of the first screen first}."""
