"""Each method wired from its expert nodes, with the paper's settings."""

from __future__ import annotations

from typing import Any

from .declared import Node, node
from .families import SAMPLING, decode, sample

_SAMPLING = SAMPLING | {"sampler": "ddim"}


def retouch(parts: dict[str, Any], megapixels: float) -> dict[str, list[Node]]:
    """Layout-and-Retouch, with tau 5 of 50 and the target prompt of Algorithm 1.

    parts: model, clip, personalized_model, personalized_clip, vae, picture, prompt and latent.
    """
    model, personalized, clip = parts["model"], parts["personalized_model"], parts["personalized_clip"]
    vae, prompt, latent = parts["vae"], parts["prompt"], parts["latent"]
    fitted = node("ImageScaleToTotalPixels", image=parts["picture"], upscale_method="area", megapixels=megapixels)
    encoded = node("VAEEncode", pixels=fitted[0], vae=vae)
    seen = node(
        "LikenessAttentionMaps",
        "Subject in the photo",
        model=personalized,
        clip=clip,
        latent=encoded[0],
        vae=vae,
        subject_prompt=prompt[4],
        wording="neutral",
    )
    reference = node("LikenessReference", image=fitted[0], vae=vae, conditioning=prompt[2], mask=seen[0])
    layout = node(
        "StepBlendedSampler",
        model=model,
        personalized_model=personalized,
        positive=prompt[1],
        personalized_positive=prompt[0],
        negative=prompt[3],
        latent=latent,
        switch_by="percent",
        switch_percent=0.1,
        record_blocks="paper",
        **_SAMPLING,
    )
    drawn = decode(layout[0], vae)
    heat = node(
        "LikenessAttentionMaps",
        "Subject in the layout",
        model=personalized,
        clip=clip,
        latent=layout[0],
        vae=vae,
        subject_prompt=prompt[4],
    )
    mask = node("AdaptiveMask", heatmap=heat[0], clip=clip, image=drawn[0], subject_prompt=prompt[4], wording="neutral")
    swap = node(
        "MultiSourceAttnSwap",
        model=personalized,
        reference=reference[0],
        layout=layout[1],
        mask=mask[0],
        early_swap="qkv_both",
        blocks="paper",
        attention="replace",
        vanilla_model=model,
        vanilla_conditioning=prompt[1],
        lambdas_by="percent",
        lambda_2_percent=0.2,
        lambda_3_percent=0.2,
    )
    target = sample(swap[0], prompt[2], prompt[3], latent)
    return {
        "Subject": [fitted, encoded, seen, reference],
        "Layout": [layout, drawn, heat],
        "Retouch": [mask, swap],
        "Target": [target],
    }


def guidance(parts: dict[str, Any]) -> dict[str, list[Node]]:
    """Pick-and-Draw. parts: model, clip, vae, picture, prompt and latent."""
    model, clip, vae, prompt = parts["model"], parts["clip"], parts["vae"], parts["prompt"]
    palette = node(
        "AppearancePalette",
        model=model,
        clip=clip,
        image=parts["picture"],
        vae=vae,
        subject_prompt=prompt[4],
        saliency="per_level",
    )
    template = node(
        "LayoutTemplate",
        model=model,
        clip=clip,
        negative=prompt[3],
        latent=parts["latent"],
        vae=vae,
        subject_prompt=prompt[4],
        **_SAMPLING,
    )
    guided = node(
        "UREMDGuidance",
        model=model,
        clip=clip,
        palette=palette[0],
        template=template[0],
        subject_prompt=prompt[4],
    )
    target = sample(guided[0], prompt[0], prompt[3], parts["latent"])
    return {"Subject": [palette], "Layout": [template], "Guidance": [guided], "Target": [target]}
