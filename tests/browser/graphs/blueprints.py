"""Blueprints: subgraphs of expert nodes that are one node with one prompt while closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import experts
from .declared import Graph, Link, Node, node

Port = tuple[str, list[tuple[Node, str]]]
"""Type of an input, and the inputs inside that it feeds."""


@dataclass
class Blueprint:
    """A graph to be closed, with its inputs and outputs by name. aliases: words that find it in a search."""

    graph: Graph
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Link]
    aliases: tuple[str, ...]


def _everywhere(nodes: Iterable[Node], kinds: Mapping[str, str], name: str) -> list[tuple[Node, str]]:
    """The inputs of the nodes of these kinds: the one that kinds names, or `name` if it names none."""
    return [(found, kinds[found.kind] or name) for found in nodes if found.kind in kinds]


def _size(latent: Node) -> dict[str, Port]:
    return {name: ("INT", [(latent, name)]) for name in ("width", "height")}


def _sampling(samplers: list[Node]) -> dict[str, Port]:
    kinds = {"seed": "INT", "steps": "INT", "cfg": "FLOAT"}
    return {name: (kind, [(found, name) for found in samplers]) for name, kind in kinds.items()}


def _latent() -> Node:
    return node("EmptyLatentImage", width=512, height=512, batch_size=1)


def photos() -> Blueprint:
    """Pick-and-Draw with one prompt."""
    prompt, latent = node("LikenessSubjectPrompt", text="a photo of {a dog} on the beach"), _latent()
    wired = experts.guidance(prompt, latent)
    pixels = node("VAEDecode", samples=wired.latent)
    graph = Graph(
        "Subject from photos",
        "Draws the subject of a photo, without training: the photo's palette guides its look, and a vanilla run its "
        "layout (Pick-and-Draw).",
        [{"Prompt": [prompt, latent]}, *wired.columns, {"Result": [pixels]}],
    )
    nodes = list(graph.nodes())
    reading = {"AppearancePalette": "", "LayoutTemplate": "", "UREMDGuidance": ""}
    return Blueprint(
        graph,
        {
            "model": ("MODEL", _everywhere(nodes, reading, "model")),
            "clip": ("CLIP", _everywhere(nodes, {"LikenessSubjectPrompt": "", **reading}, "clip")),
            "vae": (
                "VAE",
                _everywhere(nodes, dict.fromkeys(("AppearancePalette", "LayoutTemplate", "VAEDecode"), ""), "vae"),
            ),
            "photo": ("IMAGE", _everywhere(nodes, {"AppearancePalette": "image"}, "")),
            "prompt": ("STRING", [(prompt, "text")]),
            "negative": ("STRING", [(prompt, "negative")]),
            **_size(latent),
            **_sampling(wired.samplers),
        },
        {"IMAGE": pixels[0]},
        ("pick and draw", "subject", "photos"),
    )


def lora() -> Blueprint:
    """Layout-and-Retouch with one prompt."""
    prompt = node("LikenessSubjectPrompt", text="a photo of {a dog} on the beach", token="sks dog")
    latent = _latent()
    wired = experts.retouch(prompt, latent)
    pixels = node("VAEDecode", samples=wired.latent)
    graph = Graph(
        "LoRA in new layouts",
        "Draws a LoRA's subject in the layouts of its checkpoint, with the look of a photo (Layout-and-Retouch).",
        [{"Prompt": [prompt, latent]}, *wired.columns, {"Result": [pixels]}],
    )
    nodes = list(graph.nodes())
    decoding: dict[str, str] = dict.fromkeys(
        ("AppearancePalette", "LikenessReference", "LikenessAttentionMaps", "VAEDecode"), ""
    )
    (layout,) = (found for found in nodes if found.title == "Layout")
    return Blueprint(
        graph,
        {
            "model": (
                "MODEL",
                _everywhere(nodes, {"StepBlendedSampler": "", "MultiSourceAttnSwap": "vanilla_model"}, "model"),
            ),
            "lora_model": (
                "MODEL",
                _everywhere(
                    nodes,
                    {
                        "StepBlendedSampler": "personalized_model",
                        "AppearancePalette": "model",
                        "LikenessAttentionMaps": "model",
                        "MultiSourceAttnSwap": "model",
                    },
                    "",
                ),
            ),
            "clip": ("CLIP", [(prompt, "vanilla_clip")]),
            "lora_clip": (
                "CLIP",
                _everywhere(
                    nodes,
                    dict.fromkeys(
                        ("LikenessSubjectPrompt", "AppearancePalette", "LikenessAttentionMaps", "AdaptiveMask"), ""
                    ),
                    "clip",
                ),
            ),
            "vae": ("VAE", _everywhere(nodes, decoding, "vae")),
            "photo": ("IMAGE", _everywhere(nodes, {"AppearancePalette": "image", "LikenessReference": "image"}, "")),
            "prompt": ("STRING", [(prompt, "text")]),
            "token": ("STRING", [(prompt, "token")]),
            "negative": ("STRING", [(prompt, "negative")]),
            **_size(latent),
            **_sampling(wired.samplers),
        },
        {"IMAGE": pixels[0], "LAYOUT": layout[0]},
        ("layout and retouch", "LoRA", "subject"),
    )


def story() -> Blueprint:
    """JeDi with a list of scenes."""
    empty, latent = node("CLIPTextEncode", "Empty caption", text=""), _latent()
    scenes = node(
        "LikenessPromptList",
        text="on the beach\nin the snow\nin a city at night\nin a field of flowers",
        prefix="a photo of a dog",
    )
    reference = node("LikenessReference", conditioning=empty[0], source="noised")
    sampler = node(
        "JointImageSampler",
        positive=scenes[0],
        negative=empty[0],
        latent=latent[0],
        references=reference[0],
        blocks="automatic",
        sampler="ddim",
        **experts.SAMPLING,
    )
    pixels = node("VAEDecode", samples=sampler[0])
    graph = Graph(
        "Story of N scenes",
        "Draws one picture per line, all of one subject: that of the photo (JeDi).",
        [{"Prompt": [scenes, empty, latent]}, {"Subject": [reference]}, {"Draw": [sampler]}, {"Result": [pixels]}],
    )
    return Blueprint(
        graph,
        {
            "model": ("MODEL", [(sampler, "model")]),
            "clip": ("CLIP", [(scenes, "clip"), (empty, "clip")]),
            "vae": ("VAE", [(reference, "vae"), (pixels, "vae")]),
            "photo": ("IMAGE", [(reference, "image")]),
            "subject": ("STRING", [(scenes, "prefix")]),
            "scenes": ("STRING", [(scenes, "text")]),
            **_size(latent),
            **_sampling([sampler]),
        },
        {"IMAGES": pixels[0]},
        ("jedi", "story", "consistent character"),
    )


def word_mask() -> Blueprint:
    """The attention to a word, as a mask."""
    prompt = node("LikenessSubjectPrompt", text="a photo of {a dog}")
    fitted = node("ImageScaleToTotalPixels", upscale_method="area", megapixels=0.25, resolution_steps=64)
    encoded = node("VAEEncode", pixels=fitted[0])
    seen = node("LikenessAttentionMaps", latent=encoded[0], subject_prompt=prompt[4], wording="vanilla")
    mask = node("ThresholdMask", mask=seen[0], value=0.3)
    graph = Graph(
        "Mask of a word",
        "Finds the words in braces in a picture by the model's attention to them.",
        [{"Prompt": [prompt, fitted, encoded]}, {"Attention": [seen]}, {"Result": [mask]}],
    )
    return Blueprint(
        graph,
        {
            "model": ("MODEL", [(seen, "model")]),
            "clip": ("CLIP", [(prompt, "clip"), (seen, "clip")]),
            "vae": ("VAE", [(encoded, "vae"), (seen, "vae")]),
            "picture": ("IMAGE", [(fitted, "image")]),
            "prompt": ("STRING", [(prompt, "text")]),
            "megapixels": ("FLOAT", [(fitted, "megapixels")]),
            "threshold": ("FLOAT", [(mask, "value")]),
        },
        {"MASK": mask[0], "HEATMAP": seen[0], "PREVIEW": seen[1]},
        ("segment", "attention map", "word mask"),
    )


def blueprints() -> list[Blueprint]:
    """Every blueprint."""
    return [photos(), lora(), story(), word_mask()]
