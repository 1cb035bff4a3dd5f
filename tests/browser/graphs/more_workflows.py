"""Further workflows: stories, drawn places, learned words, comparisons, refinement, lists of prompts."""

from __future__ import annotations

from .declared import Graph, Node, node
from .files import Files
from .parts import FIRST, files_and_photos, likeness, result, subject, subject_prompt


def story(files: Files) -> Graph:
    """One subject in four scenes, drawn together."""
    checkpoint, pictures, latent = files.load(joint=True), files.photos(1), files.latent()
    empty = node("CLIPTextEncode", "Empty caption", clip=checkpoint[1], text="")
    scenes = node(
        "LikenessPromptList",
        "One scene per line",
        clip=checkpoint[1],
        text="\n".join(files.scenes),
        prefix=f"a photo of {files.subject}",
    )
    reference = node(
        "LikenessReference", image=pictures[-1][0], vae=checkpoint[2], conditioning=empty[0], source="noised"
    )
    sampler = node(
        "JointImageSampler",
        model=checkpoint[0],
        positive=scenes[0],
        negative=empty[0],
        latent=latent[0],
        references=reference[0],
        blocks="automatic",
        **files.sampling(),
    )
    return Graph(
        f"4 Draw a consistent character in four scenes ({files.label})",
        "Draws four scenes together, so that all show one subject (JeDi).\n\n"
        f"{files.choose} **prefix** names the subject; each line is a scene.\n\nWithout the photo, the scenes agree on "
        f"a new subject: disconnect **references**. {files.trained}\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [scenes, latent], "Subject": [empty, reference]},
            {"Draw": [sampler]},
            {"Result": result(sampler[0], checkpoint[2], "story")},
        ],
    )


def drawn_place(files: Files) -> Graph:
    """The subject where a mask is white."""
    checkpoint, pictures, place, latent = files.load(), files.photos(1), files.place(), files.latent()
    prompt, shown = subject_prompt(checkpoint[1], files.prompt()), subject(pictures)
    sampler = likeness(
        files,
        checkpoint[0],
        checkpoint[2],
        layout="drawn mask",
        subject=shown[0],
        subject_prompt=prompt[4],
        latent=latent[0],
        mask=place[-1][0],
    )
    return Graph(
        f"5 Put the subject where you draw ({files.label})",
        "The subject goes where a picture is white (Pick-and-Draw).\n\n"
        f"{files.choose}\n\nDraw white on black in any program, and load it in *Where the subject goes*. To draw "
        "inside ComfyUI, add the node *Painter* and connect its MASK instead.\n\nWhere the subject does not follow, "
        f"draw a larger area, or one that suits the scene.\n\n{files.settings}",
        [
            {"Models": files.loaders, "Photo": pictures, "Place": place[:FIRST]},
            {"Prompt": [prompt, latent], "Subject": [*place[FIRST:], shown]},
            {"Draw": [sampler]},
            {"Result": result(sampler[0], checkpoint[2], "drawn_place")},
        ],
    )


def textual_inversion(files: Files) -> Graph:
    """A learned word, without a LoRA."""
    checkpoint, pictures, latent = files.load(), files.photos(1), files.latent()
    prompt = subject_prompt(checkpoint[1], files.prompt(), f"embedding:{files.embedding}")
    shown = subject(pictures)
    sampler = likeness(
        files, checkpoint[0], checkpoint[2], subject=shown[0], subject_prompt=prompt[4], latent=latent[0]
    )
    return Graph(
        f"6 Add a photo to a textual inversion ({files.label})",
        "A learned word takes the subject's place, and a photo adds what the word has missed "
        f"(Layout-and-Retouch).\n\n{files.choose} **token** is embedding: and the name of your file in "
        f"models/embeddings.\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [prompt, latent], "Subject": [shown]},
            {"Draw": [sampler]},
            {"Result": result(sampler[0], checkpoint[2], "textual_inversion")},
        ],
    )


def comparison(files: Files) -> Graph:
    """The LoRA alone and every method, from one seed."""
    checkpoint = files.load()
    model, clip = files.personalize(checkpoint)
    pictures, latent = files.photos(1), files.latent()
    prompt, shown = subject_prompt(clip, files.prompt(), files.token, checkpoint[1]), subject(pictures)
    seed = node("PrimitiveInt", "One seed for all", value=7)
    alone = node(
        "KSampler",
        "LoRA alone",
        model=model,
        positive=prompt[0],
        negative=prompt[3],
        latent_image=latent[0],
        **{**files.sampling("sampler_name"), "seed": seed[0]},
    )
    methods = [
        likeness(
            files,
            checkpoint[0],
            checkpoint[2],
            f"Likeness Sampler - {method}",
            seed=seed[0],
            method=method,
            personalized_model=model,
            subject=shown[0],
            subject_prompt=prompt[4],
            latent=latent[0],
        )
        for method in ("palette guidance", "retouch", "joint")
    ]
    drawn = {f"latents.latent{index}": sampler[0] for index, sampler in enumerate([alone, *methods])}
    joined = node("BatchLatentsNode", "All four", **drawn)
    pixels, shown_all = result(joined[0], checkpoint[2], "compared")
    return Graph(
        f"7 Compare all methods on one seed ({files.label})",
        "The LoRA alone, Pick-and-Draw, Layout-and-Retouch and JeDi, from the same noise: four pictures in this "
        f"order.\n\n{files.choose}\n\nThe samplers are in *All methods*; double-click it to change their settings."
        f"\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [prompt, latent, seed], "Subject": [shown]},
            {"Draw": [Node("", "All methods", inside=[alone, *methods, joined])]},
            {"Result": [pixels, shown_all]},
        ],
    )


def refinement(files: Files) -> Graph:
    """A second, larger pass with the same subject."""
    checkpoint, pictures, latent = files.load(), files.photos(1), files.latent()
    prompt, shown = subject_prompt(checkpoint[1], files.prompt()), subject(pictures)
    given = {"subject": shown[0], "subject_prompt": prompt[4]}
    first = likeness(files, checkpoint[0], checkpoint[2], "First pass", latent=latent[0], **given)
    larger = node("LatentUpscaleBy", samples=first[0], upscale_method="bicubic", scale_by=1.5)
    second = likeness(
        files,
        checkpoint[0],
        checkpoint[2],
        "Second pass",
        latent=larger[0],
        layout="own layout",
        denoise=0.5,
        **given,
    )
    return Graph(
        f"8 Refine in a second pass ({files.label})",
        "Draws a picture, enlarges it, and draws the second half of the steps again with the same subject.\n\n"
        f"{files.choose}\n\n**denoise** of *Second pass*: lower keeps more of the first.\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [prompt, latent], "Subject": [shown]},
            {"First pass": [first, larger]},
            {"Second pass": [second]},
            {"Result": result(second[0], checkpoint[2], "refined")},
        ],
    )


def batch(files: Files) -> Graph:
    """One picture per line of a list of prompts."""
    checkpoint, pictures, latent = files.load(), files.photos(1), files.latent()
    lines = node(
        "LikenessPromptList",
        "One scene per line",
        clip=checkpoint[1],
        text="\n".join(files.scenes),
        prefix=f"a photo of {{{files.subject}}}",
    )
    prompt, shown = subject_prompt(checkpoint[1], lines[1]), subject(pictures)
    sampler = likeness(
        files, checkpoint[0], checkpoint[2], subject=shown[0], subject_prompt=prompt[4], latent=latent[0]
    )
    return Graph(
        f"9 Draw a batch of prompts ({files.label})",
        "One picture per line, one after the other, each as if it stood alone. What the photo gives is computed "
        f"once.\n\n{files.choose} **prefix** names the subject in braces; each line is a scene.\n\n{files.settings}",
        [
            *files_and_photos(files, pictures),
            {"Prompt": [lines, prompt], "Subject": [shown]},
            {"Draw": [latent, sampler]},
            {"Result": result(sampler[0], checkpoint[2], "batch")},
        ],
    )
