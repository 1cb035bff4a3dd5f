"""Prompts that write the files which fuzzed graphs load: weights, palettes, templates, references, trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...demo.launcher.client import Prompt
from .builder import Builder
from .parts import AUTOENCODERS, DEMO, UNETS

FAMILIES = (DEMO, "sd1", "flux")
"""Families with saved files; a graph of another family tries them, too."""
_TEXT, _WORD = "a photo of a fish", "fish"


def stock(schemas: dict[str, Any]) -> Iterator[Prompt]:
    """The prompts, in their order."""
    b = _builder(schemas)
    b.add("FuzzFiles")
    b.add("FuzzResult", latent=b.add("EmptyLatentImage", width=16, height=16))
    yield b.prompt
    for family in FAMILIES:
        yield _saved(_builder(schemas), family)


def _builder(schemas: dict[str, Any]) -> Builder:
    b = Builder(lambda _: None, schemas)
    b.common |= {"steps": 2, "noise_levels": 2, "cfg": 4.0, "switch_step": 1, "size": "own size", "source": "noised"}
    return b


def _saved(b: Builder, family: str) -> Prompt:
    """Saves one file of each kind, under the family's name."""
    demo = b.add("LikenessDemoModel")
    model, clip, vae = demo, [demo[0], 1], [demo[0], 2]
    if family != DEMO:
        model = b.add("FuzzModel", family=family)
    if family not in (DEMO, *UNETS):
        vae = b.add("FuzzVAE", format=AUTOENCODERS.get(family, "image"))
    text = b.add("CLIPTextEncode", clip=clip, text=_TEXT)
    image = b.add("FuzzImage", count=1)
    latent = b.add("EmptyLatentImage", width=64, height=64)
    shared = {"model": model, "clip": clip, "text": _TEXT, "word": _WORD}
    palette = b.add("AppearancePalette", **shared, vae=vae, image=image)
    template = b.add("LayoutTemplate", **shared, negative=text, latent=latent)
    reference = b.add("LikenessReference", image=image, vae=vae, conditioning=text)
    other = b.add("CLIPTextEncode", clip=clip, text="a photo of a sks fish")
    texts = {"positive": text, "personalized_positive": other, "negative": text}
    run = b.add(
        "StepBlendedSampler", model=model, personalized_model=model, **texts, latent=latent, record_blocks="all"
    )
    b.add("LikenessSavePalette", palette=palette, filename_prefix=family)
    b.add("LikenessSaveTemplate", template=template, filename_prefix=family)
    b.add("LikenessSaveTrajectory", trajectory=[run[0], 1], filename_prefix=family)
    sigmas = b.add("BasicScheduler", model=model)
    kept = {"model": model, "sigmas": sigmas, "blocks": "all"}
    b.add("LikenessSaveReference", reference=reference, filename_prefix=family, **kept)
    b.add("FuzzResult", latent=run)
    return b.prompt
