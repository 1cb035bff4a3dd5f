"""Nodes that most graphs have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .declared import Link, Node, node
from .files import Files

FIRST = 2
"""Nodes with pictures that stand below the models; further ones stand in the next column."""


def subject_prompt(clip: Link, text: Any, token: str = "", vanilla_clip: Link | None = None) -> Node:
    """The one prompt of a graph."""
    return node("LikenessSubjectPrompt", clip=clip, text=text, token=token, vanilla_clip=vanilla_clip)


def subject(photos: Sequence[Node]) -> Node:
    """A Subject from the nodes that give pictures, which may start with one that gives none."""
    pictures = [found for found in photos if found.kind in ("LoadImage", "ImageFromBatch")]
    return node("LikenessSubject", **{f"images.image{i}": one[0] for i, one in enumerate(pictures)})


def likeness(files: Files, model: Link, vae: Link, title: str = "", /, **inputs: Any) -> Node:
    """A Likeness Sampler. inputs: what differs from the papers' settings."""
    settings = {**files.sampling(), "target_prompt": files.target_prompt, **inputs}
    return node("LikenessSampler", title, model=model, vae=vae, **settings)


def result(latent: Link, vae: Link, prefix: str) -> list[Node]:
    """The two nodes after a sampler."""
    pixels = node("VAEDecode", samples=latent, vae=vae)
    return [pixels, node("SaveImage", "", (360, 400), images=pixels[0], filename_prefix=f"likeness/{prefix}")]


def files_and_photos(files: Files, photos: list[Node]) -> list[dict[str, list[Node]]]:
    """The columns of a graph's files and photos: one where they fit below each other, two otherwise."""
    pictures = [found for found in photos if found.kind == "LoadImage"]
    if len(files.loaders) > FIRST:
        return [{"Models": files.loaders}, {"Photo": photos}]
    if len(pictures) > FIRST:
        return [{"Models": files.loaders, "Photo": photos[:1]}, {"Photos": photos[1:]}]
    return [{"Models": files.loaders, "Photo": photos}]
