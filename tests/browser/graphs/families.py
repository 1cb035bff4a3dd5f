"""Checkpoints and files that the shipped workflows ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .declared import Node, node

HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True)
class Family:
    """One family of models. size: training resolution. owner: the repository that has the checkpoint."""

    label: str
    checkpoint: str
    owner: str
    lora: str
    size: int
    settings: str

    def load(self) -> Node:
        """The loader of the checkpoint, with the address of a usual one."""
        made = node("CheckpointLoaderSimple", "Your checkpoint", ckpt_name=self.checkpoint)
        address = f"{HUGGING_FACE}/{self.owner}/resolve/main/{self.checkpoint}"
        made.models = [{"name": self.checkpoint, "url": address, "directory": "checkpoints"}]
        return made

    def load_lora(self, checkpoint: Node) -> Node:
        """The loader of the subject's LoRA, over a checkpoint."""
        return node("LoraLoader", "Your subject's LoRA", model=checkpoint[0], clip=checkpoint[1], lora_name=self.lora)

    def latent(self, pictures: int = 1) -> Node:
        """An empty latent of the training resolution."""
        return node("EmptyLatentImage", width=self.size, height=self.size, batch_size=pictures)


SD15 = Family(
    "SD 1.5",
    "v1-5-pruned-emaonly-fp16.safetensors",
    "Comfy-Org/stable-diffusion-v1-5-archive",
    "my_subject_sd15.safetensors",
    512,
    "The settings are the papers', for SD 1.x at 512 pixels: DDIM, 50 steps, cfg 7.5.",
)
SDXL = Family(
    "SDXL",
    "sd_xl_base_1.0.safetensors",
    "stabilityai/stable-diffusion-xl-base-1.0",
    "my_subject_sdxl.safetensors",
    1024,
    "The papers used SD 1.x. For SDXL the settings are guesses: 1024 pixels, DDIM, 50 steps, cfg 7.5.",
)
FAMILIES = (SD15, SDXL)

SAMPLING: dict[str, Any] = {"seed": 7, "steps": 50, "cfg": 7.5, "scheduler": "normal", "denoise": 1.0}
"""Sampling as in the papers; each node names its sampler widget itself."""


def sample(model: Any, positive: Any, negative: Any, latent: Any, title: str = "", **other: Any) -> Node:
    """A KSampler with the papers' settings."""
    settings = SAMPLING | {"sampler_name": "ddim"} | other
    return node("KSampler", title, model=model, positive=positive, negative=negative, latent_image=latent, **settings)


def photo(number: int = 1) -> Node:
    """The loader of a photo."""
    return node("LoadImage", f"Photo {number} of the subject", (280, 330), image=f"subject_{number}.png")


def save(pixels: Any, prefix: str, title: str = "") -> Node:
    """A node that saves pictures."""
    return node("SaveImage", title, (380, 420), images=pixels, filename_prefix=f"likeness/{prefix}")


def decode(latent: Any, vae: Any) -> Node:
    """A VAE Decode."""
    return node("VAEDecode", "", (220, 0), samples=latent, vae=vae)


def subject_prompt(clip: Any, text: str, token: str = "", vanilla_clip: Any = None) -> Node:
    """The one prompt of a graph."""
    return node("LikenessSubjectPrompt", "", (340, 300), clip=clip, text=text, token=token, vanilla_clip=vanilla_clip)
