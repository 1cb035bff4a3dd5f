"""Each method wired from its expert nodes, with the paper's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .declared import Link, Node, node

SAMPLING: dict[str, Any] = {"seed": 7, "steps": 50, "cfg": 7.5, "scheduler": "ddim_uniform"}
_DDIM = {"sampler": "ddim", **SAMPLING}


@dataclass
class Wired:
    """Nodes of a method by column, those whose widgets belong together, and the picture's LATENT."""

    columns: list[dict[str, list[Node]]]
    samplers: list[Node]
    latent: Link


def retouch(prompt: Node, latent: Node) -> Wired:
    """Layout-and-Retouch, with tau 5 of 50 and the target prompt of Algorithm 1."""
    # The palette node finds the subject in a photo of any size, at the model's training resolution.
    found = node("AppearancePalette", "Subject in the photo", subject_prompt=prompt[4])
    reference = node("LikenessReference", conditioning=prompt[2], mask=found[1])
    layout = node(
        "StepBlendedSampler",
        positive=prompt[1],
        personalized_positive=prompt[0],
        negative=prompt[3],
        latent=latent[0],
        switch_by="percent",
        switch_percent=0.1,
        record_blocks="paper",
        **_DDIM,
    )
    drawn = node("VAEDecode", "Layout", samples=layout[0])
    heat = node("LikenessAttentionMaps", "Subject in the layout", latent=layout[0], subject_prompt=prompt[4])
    mask = node("AdaptiveMask", heatmap=heat[0], image=drawn[0], subject_prompt=prompt[4], wording="neutral")
    swap = node(
        "MultiSourceAttnSwap",
        reference=reference[0],
        layout=layout[1],
        mask=mask[0],
        early_swap="qkv_both",
        vanilla_conditioning=prompt[1],
        lambdas_by="percent",
    )
    target = _sample(swap[0], prompt[2], prompt[3], latent[0])
    return Wired(
        [
            {"Subject": [found, reference]},
            {"Layout": [layout, drawn, heat]},
            {"Retouch": [mask, swap]},
            {"Target": [target]},
        ],
        [layout, target],
        target[0],
    )


def guidance(prompt: Node, latent: Node) -> Wired:
    """Pick-and-Draw."""
    palette = node("AppearancePalette", subject_prompt=prompt[4])
    template = node("LayoutTemplate", negative=prompt[3], latent=latent[0], subject_prompt=prompt[4], **_DDIM)
    guided = node("UREMDGuidance", palette=palette[0], template=template[0], subject_prompt=prompt[4])
    target = _sample(guided[0], prompt[0], prompt[3], latent[0])
    return Wired(
        [{"Subject": [palette]}, {"Layout": [template]}, {"Guidance": [guided]}, {"Target": [target]}],
        [template, target],
        target[0],
    )


def _sample(model: Link, positive: Link, negative: Link, latent: Link) -> Node:
    given = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    return node("KSampler", **given, sampler_name="ddim", **SAMPLING)
