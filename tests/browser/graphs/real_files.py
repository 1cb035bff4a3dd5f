"""Workflows for real files, as the template browser shows them."""

from __future__ import annotations

from . import experts
from .declared import Graph, node
from .families import FAMILIES, SAMPLING, Family, decode, photo, save, subject_prompt

FILES = "Choose your files in the group **Models** and **Subject**, write the prompt, press Run."


def lora(family: Family) -> Graph:
    """A LoRA's subject in the layouts of the checkpoint."""
    checkpoint = family.load()
    loaded, picture, latent = family.load_lora(checkpoint), photo(), family.latent()
    prompt = subject_prompt(loaded[1], "a photo of {a dog} on the beach", "sks dog", checkpoint[1])
    parts = {
        "model": checkpoint[0],
        "personalized_model": loaded[0],
        "personalized_clip": loaded[1],
        "vae": checkpoint[2],
        "picture": picture[0],
        "prompt": prompt,
        "latent": latent[0],
    }
    made = experts.retouch(parts, (family.size / 1024) ** 2)
    pixels = decode(made["Target"][0][0], checkpoint[2])
    return Graph(
        f"1 Start here - your LoRA in new layouts ({family.label})",
        f"{FILES} **token** holds the words that your LoRA learned.\n\n{family.settings}",
        {
            "Models": [checkpoint, loaded, prompt, latent],
            "Subject": [picture, *made["Subject"]],
            "Layout": made["Layout"],
            "Retouch": made["Retouch"],
            "Result": [*made["Target"], pixels, save(pixels[0], "lora_in_new_layouts")],
        },
    )


def one_photo(family: Family) -> Graph:
    """A subject from one photo."""
    checkpoint, picture, latent = family.load(), photo(), family.latent()
    prompt = subject_prompt(checkpoint[1], "a photo of {a dog} on the beach")
    parts = {
        "model": checkpoint[0],
        "clip": checkpoint[1],
        "vae": checkpoint[2],
        "picture": picture[0],
        "prompt": prompt,
        "latent": latent[0],
    }
    made = experts.guidance(parts)
    pixels = decode(made["Target"][0][0], checkpoint[2])
    return Graph(
        f"2 One photo, no training ({family.label})",
        f"{FILES}\n\n{family.settings}",
        {
            "Models": [checkpoint, prompt, latent],
            "Subject": [picture, *made["Subject"]],
            "Layout": made["Layout"],
            "Guidance": made["Guidance"],
            "Result": [*made["Target"], pixels, save(pixels[0], "one_photo")],
        },
    )


def story(family: Family) -> Graph:
    """One subject in four scenes."""
    checkpoint, pictures, latent = family.load(), [photo(number) for number in (1, 2)], family.latent()
    batch = node("ImageBatch", image1=pictures[0][0], image2=pictures[1][0])
    caption = node("CLIPTextEncode", "Empty caption", (280, 90), clip=checkpoint[1], text="")
    scenes = node(
        "LikenessPromptList",
        "One scene per line",
        (340, 180),
        clip=checkpoint[1],
        prefix="a photo of a dog",
        text="on the beach\nin the snow\nin a city at night\nin a field of flowers",
    )
    reference = node("LikenessReference", image=batch[0], vae=checkpoint[2], conditioning=caption[0], source="noised")
    drawn = node(
        "JointImageSampler",
        model=checkpoint[0],
        positive=scenes[0],
        negative=caption[0],
        latent=latent[0],
        references=reference[0],
        blocks="decoder",
        sampler="ddim",
        **SAMPLING,
    )
    pixels = decode(drawn[0], checkpoint[2])
    return Graph(
        f"4 Story of four scenes ({family.label})",
        f"{FILES}\n\n{family.settings}",
        {
            "Models": [checkpoint, latent, scenes, caption],
            "Subject": [*pictures, batch, reference],
            "Scenes": [drawn],
            "Result": [pixels, save(pixels[0], "story")],
        },
    )


def graphs() -> list[Graph]:
    """Every workflow for real files, of each family."""
    return [make(family) for make in (lora, one_photo, story) for family in FAMILIES]
