"""Nodes of ours that the methods take: photographs, references, masks, maps, and files that another run has saved."""

from __future__ import annotations

from typing import Any

from .builder import TEXTS, WORDS, Builder
from .parts import Scene, encoded, latent, patched, picture
from .prompts import Link, nodes_of


def subject(b: Builder, s: Scene) -> Link:
    """One to three photographs, with masks or without."""
    asked: dict[str, Any] = {"images.image0": picture(b, s)}
    if b.maybe():
        asked["images.image1"] = b.add("FuzzImage", width=60, height=45, count=1, seed=9)
    if b.maybe():
        asked["masks.mask0"] = mask(b, s)
    return b.add("LikenessSubject", **asked)


def reference(b: Builder, s: Scene) -> Link:
    if b.rarely():
        return loaded(b, s, "reference")
    asked: dict[str, Any] = {"image": picture(b, s), "vae": s.vae, "conditioning": encoded(b, s, TEXTS[1])}
    asked["source"] = b.one_of("inverted", "noised")
    if b.maybe():
        asked["mask"] = mask(b, s)
    made = b.add("LikenessReference", **asked)
    if b.seldom():
        sigmas = b.add("BasicScheduler", model=s.model, denoise=1.0)
        made = b.add("LikenessSaveReference", reference=made, model=s.model, sigmas=sigmas, blocks="all")
    return b.add("LikenessReference", **asked | {"seed": 9, "more": made}) if b.rarely() else made


def mask(b: Builder, s: Scene) -> Link:
    if b.rarely():
        pixels = b.add("FuzzImage", width=s.width, height=s.height, count=1, seed=6)
        return b.add("LikenessSegment", image=pixels, **b.one_of({"inside": "32,32"}, {"box": "8,8,40,40"}))
    if b.maybe():
        pixels = b.add("FuzzImage", width=s.width, height=s.height, count=1, seed=6)
        return b.add("ImageToMask", image=pixels, channel="red")
    value = b.one_of(1.0, 0.0) if b.rarely() else 1.0
    return b.add("SolidMask", value=value, width=s.width, height=s.height)


def saved(b: Builder, s: Scene, kind: str, made: Link) -> Link:
    """The same, saved to a file on the way or not, or one that another run has saved."""
    how = b.one_of("unsaved", "saved", "loaded")
    if how == "loaded":
        return loaded(b, s, kind)
    return b.add(f"LikenessSave{kind.capitalize()}", **{kind: made}) if how == "saved" else made


def loaded(b: Builder, s: Scene, kind: str) -> Link:
    """A saved file, of this family where there is one."""
    node = f"LikenessLoad{kind.capitalize()}"
    names = b.schemas[node]["input"]["required"]["file"]
    names = names[1]["options"] if names[0] == "COMBO" else names[0]
    own = [name for name in names if name.startswith(f"{s.family}_")]
    return b.add(node, file=b.one_of(*own, *own, *own, *own, *names))


def adaptive_mask(b: Builder, s: Scene) -> Link:
    asked: dict[str, Any] = {"text": s.text, "word": s.word, "clip": s.clip, "subject_mask": mask(b, s)}
    asked["blocks"] = "all"
    if b.maybe():
        asked["heatmap"] = maps_of(b, s)
    return b.add("AdaptiveMask", **asked)


def maps_of(b: Builder, s: Scene) -> Link:
    model = patched(b, s, s.model, 1)
    pixels = b.add("FuzzImage", width=s.width, height=s.height, count=s.batch, seed=7)
    looked_at = latent(b, s) if b.rarely() else b.add("VAEEncode", pixels=pixels, vae=s.vae)
    word = b.one_of(*WORDS) if b.rarely() else s.word
    asked = {"model": model, "clip": s.clip, "latent": looked_at, "text": s.text, "word": word}
    return b.add("LikenessAttentionMaps", **asked)


def probed(b: Builder, s: Scene) -> Link:
    """Names of the blocks that follow content."""
    pixels = b.add("FuzzImage", width=s.width, height=s.height, count=1, seed=8)
    asked = {"model": patched(b, s, s.model, 1), "positive": encoded(b, s), "blocks": b.one_of("all", "decoder")}
    return b.add("LikenessLayerProbe", **asked, latent=b.add("VAEEncode", pixels=pixels, vae=s.vae))


def connect(b: Builder, node: str) -> None:
    """Connects the scene's Subject Prompt, where it has one and this node takes one."""
    inputs = b.schemas[b.prompt[node]["class_type"]]["input"].get("optional", {})
    made = [prompt for prompt in nodes_of(b.prompt, "LikenessSubjectPrompt") if int(prompt) < int(node)]
    if made and inputs.get("subject_prompt", [""])[0] == "LIKENESS_PROMPT" and b.maybe():
        b.prompt[node]["inputs"]["subject_prompt"] = [made[0], 4]
