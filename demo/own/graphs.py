"""API graphs of the methods for the user's files, with the papers' settings and the layout's shortcut, fork."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..launcher.client import Prompt

ALONE, BLENDED, RETOUCH, PALETTE, JOINT = "alone", "step-blended", "retouch", "palette", "joint"
METHODS = (BLENDED, RETOUCH, PALETTE, JOINT)
NEEDS_LORA = (BLENDED, RETOUCH)
SAVE = "save"
_PAPER = {"sampler": "ddim", "scheduler": "ddim_uniform"}

Link = list


@dataclass(frozen=True)
class Photo:
    """Photograph in ComfyUI's input folder. cut_out: its transparent parts do not belong to the subject."""

    file: str
    cut_out: bool


@dataclass(frozen=True)
class Wish:
    """Everything that the user asks for.

    width and height are in pixels; lora is a file's name, empty for none; fit is the widget `size` of photographs.
    """

    checkpoint: str
    photos: tuple[Photo, ...]
    text: str
    token: str
    width: int
    height: int
    lora: str = ""
    negative: str = ""
    pictures: int = 2
    seed: int = 0
    steps: int = 50
    cfg: float = 7.5
    fit: str = "training resolution"


@dataclass
class _Graph:
    """Graph under construction. The nodes that every method shares come first."""

    wish: Wish
    nodes: Prompt = field(default_factory=dict)

    def add(self, name: str, kind: str, **inputs: Any) -> str:
        self.nodes[name] = {"class_type": kind, "inputs": inputs}
        return name

    def shared(self) -> None:
        wish = self.wish
        self.add("checkpoint", "CheckpointLoaderSimple", ckpt_name=wish.checkpoint)
        if wish.lora:
            both = {"strength_model": 1.0, "strength_clip": 1.0}
            self.add("lora", "LoraLoader", lora_name=wish.lora, **both, model=self.vanilla, clip=["checkpoint", 1])
        texts = {"text": wish.text, "token": wish.token, "negative": wish.negative}
        self.add("prompt", "LikenessSubjectPrompt", **texts, clip=self.clip, vanilla_clip=["checkpoint", 1])
        self.add("latent", "EmptyLatentImage", width=wish.width, height=wish.height, batch_size=wish.pictures)

    @property
    def vanilla(self) -> Link:
        return ["checkpoint", 0]

    @property
    def model(self) -> Link:
        return ["lora", 0] if self.wish.lora else self.vanilla

    @property
    def clip(self) -> Link:
        return ["lora", 1] if self.wish.lora else ["checkpoint", 1]

    @property
    def vae(self) -> Link:
        return ["checkpoint", 2]

    def run(self, **more: Any) -> dict[str, Any]:
        """Inputs of a sampler of the pack."""
        wish = self.wish
        return {"seed": wish.seed, "steps": wish.steps, "cfg": wish.cfg, "denoise": 1.0, **_PAPER, **more}

    def k_sampler(self, model: Link) -> None:
        run = self.run(model=model, positive=["prompt", 0], negative=["prompt", 3], latent_image=["latent", 0])
        run["sampler_name"] = run.pop("sampler")
        self.add("sampler", "KSampler", **run)

    def save(self, samples: str) -> Prompt:
        self.add("picture", "VAEDecode", samples=[samples, 0], vae=self.vae)
        self.add(SAVE, "SaveImage", filename_prefix="likeness/own", images=["picture", 0])
        return self.nodes

    def maps(self, name: str, latent: Link) -> Link:
        """Attention of the personalized model to the subject's words, as a mask."""
        widgets = {"text": "", "word": "", "blocks": "all", "group_by": "together", "noise_levels": 4, "seed": 0}
        window = {"start_percent": 0.2, "end_percent": 0.8, "wording": "personalized"}
        links = {"model": self.model, "clip": self.clip, "vae": self.vae, "latent": latent}
        return [self.add(name, "LikenessAttentionMaps", **widgets, **window, **links, subject_prompt=["prompt", 4]), 0]

    def photo(self, index: int) -> tuple[Link, Link | None]:
        """The picture of a photograph, and the mask of a cut-out."""
        name, photo = f"photo{index}", self.wish.photos[index]
        if name not in self.nodes:
            self.add(name, "LoadImage", image=photo.file)
        if not photo.cut_out:
            return [name, 0], None
        return [name, 0], [self.add(f"{name}.cut_out", "InvertMask", mask=[name, 1]), 0]

    def references(self, source: str, indices: range) -> Link:
        """Photographs as references, with the subject's mask from their transparency or the model's attention."""
        more: dict[str, Link] = {}
        for index in indices:
            image, mask = self.photo(index)
            if mask is None:
                encoded = self.add(f"encoded{index}", "VAEEncode", pixels=image, vae=self.vae)
                mask = self.maps(f"maps{index}", [encoded, 0])
            widgets = {"source": source, "seed": 0, "weight": 1.0, "size": self.wish.fit}
            links = {"image": image, "vae": self.vae, "conditioning": ["prompt", 2], "mask": mask, **more}
            name = self.add(
                f"reference{index}", "LikenessReference", **widgets, inversion_steps=self.wish.steps, **links
            )
            more = {"more": [name, 0]}
        return more["more"]

    def palette(self) -> Link:
        """Features of the subject in every photograph."""
        pictures: dict[str, Link] = {}
        for index in range(len(self.wish.photos)):
            pictures[f"images.image{index}"], mask = self.photo(index)
            if mask is not None:
                pictures[f"masks.mask{index}"] = mask
        widgets = {"word": "", "size": self.wish.fit, "area": "attention", "threshold": 0.3, "map_blocks": "paper"}
        subject = self.add("subject", "LikenessSubject", **widgets, inversion_steps=self.wish.steps, **pictures)
        widgets = {"text": "", "word": "", "source": "inverted", "seed": 0, "threshold": 0.3, "weight": 1.0}
        widgets |= {"blocks": "paper", "map_blocks": "paper", "start_percent": 0.0, "end_percent": 1.0}
        links = {"model": self.model, "clip": self.clip, "vae": self.vae, "subject": [subject, 0]}
        return [self.add("palette", "AppearancePalette", **widgets, **links, subject_prompt=["prompt", 4]), 0]


def graph(method: str, wish: Wish) -> Prompt:
    """The graph of a method; the node SAVE has its pictures. ALONE is the plain model, personalized by the LoRA."""
    made = _Graph(wish)
    made.shared()
    return {ALONE: _alone, BLENDED: _blended, RETOUCH: _retouch, PALETTE: _palette, JOINT: _joint}[method](made)


def _alone(made: _Graph) -> Prompt:
    made.k_sampler(made.model)
    return made.save("sampler")


def _blended(made: _Graph) -> Prompt:
    return made.save(_layout(made))


def _layout(made: _Graph) -> str:
    """Stage 1 of Layout-and-Retouch: the vanilla model draws the first tenth of the run."""
    links = {"model": made.vanilla, "personalized_model": made.model, "latent": ["latent", 0]}
    texts = {"positive": ["prompt", 1], "personalized_positive": ["prompt", 0], "negative": ["prompt", 3]}
    switch = {"switch_by": "percent", "switch_step": 5, "switch_percent": 0.1, "record_blocks": "paper"}
    return made.add("layout", "StepBlendedSampler", **made.run(**links, **texts, **switch))


def _retouch(made: _Graph) -> Prompt:
    layout = _layout(made)
    image = made.add("layout.picture", "VAEDecode", samples=[layout, 0], vae=made.vae)
    heatmap = made.maps("layout.maps", [layout, 0])
    widgets = {"attention": "per_step", "text": "", "word": "", "blocks": "decoder", "threshold": 0.1}
    widgets |= {"minimum_area": 0.005, "metric": "L2", "core": "both", "background": 0.0, "resolution": "latent"}
    links = {"heatmap": heatmap, "clip": made.clip, "image": [image, 0], "subject_prompt": ["prompt", 4]}
    made.add("mask", "AdaptiveMask", **widgets, **links)
    widgets = {"early_swap": "fork", "lambda_2": 10, "lambda_3": 10, "blocks": "paper", "attention": "replace"}
    widgets |= {"lambdas_by": "percent", "lambda_2_percent": 0.2, "lambda_3_percent": 0.2, "mode": "banked"}
    widgets |= {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "bank_limit": 0.0}
    links = {"reference": made.references("inverted", range(1)), "layout": [layout, 1], "mask": ["mask", 0]}
    made.add("retouch", "MultiSourceAttnSwap", **widgets, **links, model=made.model)
    made.k_sampler(["retouch", 0])
    return made.save("sampler")


def _palette(made: _Graph) -> Prompt:
    links = {"model": made.vanilla, "clip": ["checkpoint", 1], "negative": ["prompt", 3], "latent": ["latent", 0]}
    widgets = {"text": "", "word": "", "blocks": "all", "start_percent": 0.0, "end_percent": 1.0, "boxes": ""}
    made.add("template", "LayoutTemplate", **made.run(**widgets, **links), subject_prompt=["prompt", 4])
    widgets = {"text": "", "word": "", "appearance_weight": 1.0, "appearance_start": 0.1, "appearance_end": 0.7}
    widgets |= {"layout_weight": 1.0, "layout_start": 0.0, "layout_end": 0.3, "layout_blocks": "all"}
    widgets |= {"direction": "gen_to_ref", "step": "relative", "step_size": 0.05, "iterations": 1, "every": 1}
    widgets |= {"threshold": 0.3, "map_blocks": "paper"}
    links = {"model": made.model, "clip": made.clip, "palette": made.palette(), "template": ["template", 0]}
    made.add("guidance", "UREMDGuidance", **widgets, **links, subject_prompt=["prompt", 4])
    made.k_sampler(["guidance", 0])
    return made.save("sampler")


def _joint(made: _Graph) -> Prompt:
    """A set without any training. More than four photographs would take the memory of a large batch."""
    widgets = {"guidance": "joint", "image_cfg": made.wish.cfg, "strength": 1.0, "blocks": "automatic"}
    widgets |= {"reference_noise": "fresh", "channel_order": "automatic", "start_percent": 0.0, "end_percent": 1.0}
    links = {"model": made.model, "positive": ["prompt", 0], "negative": ["prompt", 3], "latent": ["latent", 0]}
    links["references"] = made.references("noised", range(min(4, len(made.wish.photos))))
    links["caption"] = [made.add("caption", "CLIPTextEncode", text="", clip=made.clip), 0]
    return made.save(made.add("joint", "JointImageSampler", **made.run(**widgets, **links)))
