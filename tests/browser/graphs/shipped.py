"""Workflows for real files, as the template browser shows them, and their twins for the demo model."""

from __future__ import annotations

from collections.abc import Callable

from . import more_workflows, transformers
from .declared import Graph
from .files import REAL, Files, demo
from .parts import files_and_photos, likeness, result, subject, subject_prompt

BRACES = "The subject stands in braces, with its article."
AREA = (
    "The model's attention finds the subject in the photos. With a Segment Anything file in models/sams, **area** in "
    "*Subject* can follow its outline instead."
)


def lora(files: Files) -> Graph:
    """A LoRA's subject in the checkpoint's layouts."""
    checkpoint = files.load()
    model, clip = files.personalize(checkpoint)
    photos, latent = files.photos(1), files.latent()
    prompt = subject_prompt(clip, files.prompt(), files.token, checkpoint[1])
    shown = subject(photos)
    sampler = likeness(
        files,
        checkpoint[0],
        checkpoint[2],
        personalized_model=model,
        subject=shown[0],
        subject_prompt=prompt[4],
        latent=latent[0],
    )
    return Graph(
        f"1 Draw a LoRA or DreamBooth subject in new layouts ({files.label})",
        "A LoRA knows your subject, and repeats the layouts of its photos. Here the checkpoint draws the layout, and "
        f"the LoRA and a photo give the subject its look (Layout-and-Retouch).\n\n{files.choose} {BRACES} **token** "
        "holds the words that the LoRA learned.\n\n**likeness**: how much the photo counts; 0 is the LoRA alone. "
        "**target_prompt**: *neutral* is our reading of the paper; *whole* keeps a place that the picture loses."
        f"\n\n{AREA}\n\n{files.settings}",
        [
            *files_and_photos(files, photos),
            {"Prompt": [prompt, latent], "Subject": [shown]},
            {"Draw": [sampler]},
            {"Result": result(sampler[0], checkpoint[2], "lora_in_new_layouts")},
        ],
    )


def photos(files: Files, count: int, name: str) -> Graph:
    """A subject from photos, without training."""
    checkpoint, pictures, latent = files.load(), files.photos(count), files.latent()
    prompt, shown = subject_prompt(checkpoint[1], files.prompt()), subject(pictures)
    sampler = likeness(
        files, checkpoint[0], checkpoint[2], subject=shown[0], subject_prompt=prompt[4], latent=latent[0]
    )
    return Graph(
        f"{name} ({files.label})",
        f"Guides the checkpoint towards the subject of {'a photo' if count == 1 else 'three photos'} "
        f"(Pick-and-Draw).\n\n{files.choose} {BRACES}\n\n**likeness**: how much the photos count; 0 is the checkpoint "
        f"alone. **method**: joint draws by shared attention instead (JeDi).\n\n{AREA}\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [prompt, latent], "Subject": [shown]},
            {"Draw": [sampler]},
            {"Result": result(sampler[0], checkpoint[2], "from_photos")},
        ],
    )


def new_scenes(files: Files) -> Graph:
    """A transformer's subject from photos, without training or gradients."""
    checkpoint, pictures, latent = files.load(), files.photos(1), files.latent()
    prompt, shown = subject_prompt(checkpoint[1], files.prompt()), subject(pictures)
    sampler = likeness(
        files,
        checkpoint[0],
        checkpoint[2],
        subject=shown[0],
        subject_prompt=prompt[4],
        latent=latent[0],
        method="retouch",
        layout="own layout",
    )
    return Graph(
        "",
        "Draws the subject of a photo in new scenes: the picture's attention looks at the photo too "
        f"(Layout-and-Retouch, stage 2, without a layout).\n\n{files.choose} {BRACES} More photos: **images** of "
        "*Subject*.\n\n**likeness**: how much the photo counts; 0 is the model alone. *Layer Probe* tells which blocks "
        f"of your model suit *Reference Retouch*, the same with all its widgets.\n\n{AREA}\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [prompt, latent], "Subject": [shown]},
            {"Draw": [sampler]},
            {"Result": result(sampler[0], checkpoint[2], "new_scenes")},
        ],
    )


def one_photo(files: Files) -> Graph:
    """A subject from one photo."""
    return photos(files, 1, "2 Use one photo like IPAdapter, without training")


def three_photos(files: Files) -> Graph:
    """A subject from three photos."""
    return photos(files, 3, "3 Draw the same subject from three photos")


MAKERS: tuple[Callable[[Files], Graph], ...] = (
    lora,
    one_photo,
    three_photos,
    more_workflows.story,
    more_workflows.drawn_place,
    more_workflows.textual_inversion,
    more_workflows.comparison,
    more_workflows.refinement,
    more_workflows.batch,
)
TRY = {
    lora: "0 Demo, no download - draw a LoRA in new layouts",
    one_photo: "0 Demo, no download - use one photo",
    more_workflows.story: "0 Demo, no download - draw a story in four scenes",
}


OF_TRANSFORMERS: dict[str, Callable[[Files], Graph]] = {
    "your photos in new scenes": new_scenes,
    "your LoRA in new layouts": lora,
    "story of four scenes": more_workflows.story,
}
"""Goals of each transformer: a person who has one of them looks for its name."""


def shipped() -> list[Graph]:
    """Every workflow of the template browser."""
    return [*tries(), *(make(files()) for make in MAKERS for files in REAL), *of_transformers()]


def of_transformers() -> list[Graph]:
    """Those for transformers, family by family, after all others."""
    graphs = []
    for files in transformers.FILES:
        for goal, make in OF_TRANSFORMERS.items():
            graph, label = make(files()), files().label
            graph.name = f"{label} - {goal}"
            graphs.append(graph)
    return graphs


def tries() -> list[Graph]:
    """Those for the demo model."""
    graphs = [(make(demo()), name) for make, name in TRY.items()]
    for graph, name in graphs:
        graph.name = name
    return [graph for graph, _ in graphs]
