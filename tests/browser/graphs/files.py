"""Files that the workflows ask for: a checkpoint, a LoRA, photos. The demo has its own in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .declared import Link, Node, node

HUGGING_FACE = "https://huggingface.co"


@dataclass
class Files:
    """Loaders of one graph's files. size: the training resolution. models: groups of loaders, made when asked for.

    trained: what a note says of training on sets. choose: what it asks for first.
    """

    label: str
    checkpoint: str
    owner: str
    lora: str
    size: int
    settings: str
    steps: int = 50
    cfg: float = 7.5
    subject: str = "a dog"
    token: str = "sks dog"
    embedding: str = "my_subject"
    target_prompt: str = "neutral"
    sampler: str = "ddim"
    scheduler: str = "ddim_uniform"
    scenes: Sequence[str] = ("on the beach", "in the snow", "in a city at night", "in a field of flowers")
    trained: str = (
        "A checkpoint that was not trained on sets follows the photo less faithfully; *Load Joint Checkpoint* loads "
        "one that was."
    )
    choose: str = "Choose your files on the left, write the prompt, press **Run**."
    loaders: list[Node] = field(default_factory=list)

    def load(self, joint: bool = False) -> tuple[Link, Link, Link]:
        """Model, text encoder and VAE of the checkpoint, whose loader has the address of a usual one."""
        made = node("CheckpointLoaderSimple", "Your checkpoint", ckpt_name=self.checkpoint)
        address = f"{HUGGING_FACE}/{self.owner}/resolve/main/{self.checkpoint}"
        made.models = [{"name": self.checkpoint, "url": address, "directory": "checkpoints"}]
        self._kept(made)
        return made[0], made[1], made[2]

    def personalize(self, checkpoint: Sequence[Link]) -> tuple[Link, Link]:
        """The model and the text encoder with the subject's LoRA."""
        made = node("LoraLoader", "Your LoRA", model=checkpoint[0], clip=checkpoint[1], lora_name=self.lora)
        self._kept(made)
        return made[0], made[1]

    def photos(self, count: int) -> list[Node]:
        """Loaders of photos of the subject."""
        return [
            node("LoadImage", f"Photo {number} of the subject", image=f"subject_{number}.png")
            for number in range(1, count + 1)
        ]

    def place(self) -> list[Node]:
        """The last of these nodes gives a mask in which the subject's place is white."""
        return [node("LoadImageMask", "Where the subject goes", image="place.png", channel="red")]

    def latent(self, pictures: int = 1) -> Node:
        """An empty latent of the training resolution."""
        return node("EmptyLatentImage", width=self.size, height=self.size, batch_size=pictures)

    def prompt(self, scene: str = "on the beach") -> str:
        """A prompt with the subject in braces."""
        return f"a photo of {{{self.subject}}} {scene}"

    def sampling(self, sampler: str = "sampler") -> dict[str, Any]:
        """Widgets of a sampler. sampler: the name of the one that names the sampler."""
        return {"seed": 7, "steps": self.steps, "cfg": self.cfg, sampler: self.sampler, "scheduler": self.scheduler}

    def _kept(self, made: Node) -> Node:
        self.loaders.append(made)
        return made


class Demo(Files):
    """The bundled demo model and its subject in place of the files."""

    def load(self, joint: bool = False) -> tuple[Link, Link, Link]:
        made = self._kept(node(f"LikenessDemo{'Joint' if joint else ''}Model"))
        return made[0], made[1], made[2]

    def personalize(self, checkpoint: Sequence[Link]) -> tuple[Link, Link]:
        return self._kept(self._subject("The demo's LoRA and photos", checkpoint[0], 0.8))[0], checkpoint[1]

    def photos(self, count: int) -> list[Node]:
        last = self.loaders[-1]
        known = last.kind == "LikenessDemoSubject"
        subject = last if known else self._subject("The demo's subject", last[0], 0.0)
        shown = [
            node("ImageFromBatch", f"Picture {number}", image=subject[1], batch_index=number - 1, length=1)
            for number in range(1, count + 1)
        ]
        return shown if known else [subject, *shown]

    def _subject(self, title: str, model: Link, strength: float) -> Node:
        return node("LikenessDemoSubject", title, model=model, subject="nemo", strength=strength, scene="")

    def place(self) -> list[Node]:
        empty = node("SolidMask", value=0.0, width=self.size, height=self.size)
        box = node("SolidMask", value=1.0, width=self.size // 2, height=self.size // 2)
        x = y = self.size // 2 - 8
        return [empty, box, node("MaskComposite", destination=empty[0], source=box[0], x=x, y=y, operation="add")]


def sd15() -> Files:
    """Files for SD 1.5, with the papers' settings."""
    return Files(
        "SD 1.5",
        "v1-5-pruned-emaonly-fp16.safetensors",
        "Comfy-Org/stable-diffusion-v1-5-archive",
        "my_subject_sd15.safetensors",
        512,
        "The settings are the papers': SD 1.x at 512 pixels, DDIM, 50 steps. Their cfg is not known; 7.5 is usual.",
    )


def sdxl() -> Files:
    """Files for SDXL, with settings that the papers do not give."""
    return Files(
        "SDXL",
        "sd_xl_base_1.0.safetensors",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "my_subject_sdxl.safetensors",
        1024,
        "The papers used SD 1.x. For SDXL the settings are guesses: 1024 pixels, DDIM, 50 steps, cfg 7.5.",
    )


def demo() -> Files:
    """The demo's own."""
    return Demo(
        "demo model",
        "",
        "",
        "",
        128,
        "Nothing is downloaded. The demo model draws 128 pixels and knows eight kinds of things in eight places.",
        steps=25,
        cfg=4.0,
        subject="a fish",
        token="sks fish",
        embedding="nemo",
        # A few words more keep the place, which the tiny model forgets with the paper's.
        target_prompt="whole",
        scenes=("on the beach", "in the snow", "in the city", "on the grass"),
        choose="Press **Run**. Then change the words after the subject, and run again.",
    )


REAL = (sd15, sdxl)
