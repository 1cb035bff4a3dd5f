"""Files of diffusion transformers, with the loaders and settings of ComfyUI's own workflows for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .declared import Link, Node, node
from .files import HUGGING_FACE, Files

_SETTINGS = (
    "Steps, cfg, sampler and size are those of ComfyUI's own workflow for {}. Nobody has measured with its weights "
    "how like the photos its pictures become."
)
SETTINGS = _SETTINGS.format("this model")
UNTRAINED = "The model was not trained on sets of one subject: joint checkpoints are for SD 1.x and SDXL alone."


@dataclass
class Transformer(Files):
    """Network, text encoders and VAE in a file each.

    owner: the repository of each file and its path there, in the order network, text encoders, VAE. texts, vae: their
    names. kind: of the text encoder, for its loader. shift: of the noise schedule, None for the model's own. empty: the
    node that makes an empty latent.
    """

    trained: str = UNTRAINED
    owners: Sequence[str] = ()
    texts: Sequence[str] = ()
    vae: str = ""
    kind: str = ""
    shift: float | None = None
    empty: str = "EmptySD3LatentImage"

    def load(self, joint: bool = False) -> tuple[Link, Link, Link]:
        network = self._loader("UNETLoader", "Your model", "diffusion_models", unet_name=self.checkpoint)
        model = network[0]
        if self.shift is not None:
            model = self._kept(node("ModelSamplingAuraFlow", model=model, shift=self.shift))[0]
        names = {f"clip_name{i}" if len(self.texts) > 1 else "clip_name": name for i, name in enumerate(self.texts, 1)}
        loader = "DualCLIPLoader" if len(self.texts) > 1 else "CLIPLoader"
        clip = self._loader(loader, "Its text encoder", "text_encoders", type=self.kind, **names)
        vae = self._loader("VAELoader", "Its VAE", "vae", vae_name=self.vae)
        return model, clip[0], vae[0]

    def personalize(self, checkpoint: Sequence[Link]) -> tuple[Link, Link]:
        made = node("LoraLoaderModelOnly", "Your LoRA", model=checkpoint[0], lora_name=self.lora)
        self.loaders.insert(self.loaders.index(checkpoint[0].node) + 1, made)
        return made[0], checkpoint[1]

    def latent(self, pictures: int = 1) -> Node:
        return node(self.empty, width=self.size, height=self.size, batch_size=pictures)

    def _loader(self, kind: str, title: str, folder: str, **inputs: str) -> Node:
        made = node(kind, title, **inputs)
        files = [self.checkpoint, *self.texts, self.vae]
        made.models = [
            {"name": name, "url": f"{HUGGING_FACE}/{owner}/{name}", "directory": folder}
            for name, owner in zip(files, self.owners, strict=True)
            if name in inputs.values()
        ]
        return self._kept(made)


@dataclass
class Whole(Files):
    """A transformer in one checkpoint with its text encoders and VAE."""

    trained: str = UNTRAINED

    def latent(self, pictures: int = 1) -> Node:
        return node("EmptySD3LatentImage", width=self.size, height=self.size, batch_size=pictures)


def z_image() -> Files:
    """Z-Image-Turbo, which is distilled."""
    split = "Comfy-Org/z_image_turbo/resolve/main/split_files"
    return Transformer(
        "91 Z-Image Turbo",
        "z_image_turbo_bf16.safetensors",
        "",
        "my_subject_z_image.safetensors",
        1024,
        SETTINGS,
        steps=8,
        cfg=1.0,
        sampler="res_multistep",
        scheduler="simple",
        owners=(f"{split}/diffusion_models", f"{split}/text_encoders", f"{split}/vae"),
        texts=("qwen_3_4b.safetensors",),
        vae="ae.safetensors",
        kind="lumina2",
        shift=3.0,
    )


def krea2() -> Files:
    """Krea 2 Turbo, which is distilled."""
    split = "Comfy-Org/Krea-2/resolve/main"
    return Transformer(
        "92 Krea 2 Turbo",
        "krea2_turbo_fp8_scaled.safetensors",
        "",
        "my_subject_krea2.safetensors",
        1024,
        SETTINGS,
        steps=8,
        cfg=1.0,
        sampler="euler",
        scheduler="simple",
        owners=(f"{split}/diffusion_models", f"{split}/text_encoders", f"{split}/vae"),
        texts=("qwen3vl_4b_fp8_scaled.safetensors",),
        vae="qwen_image_vae.safetensors",
        kind="krea2",
        empty="EmptyLatentImage",
    )


def qwen_image() -> Files:
    """Qwen-Image."""
    split = "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files"
    return Transformer(
        "93 Qwen-Image",
        "qwen_image_fp8_e4m3fn.safetensors",
        "",
        "my_subject_qwen_image.safetensors",
        1328,
        SETTINGS,
        steps=20,
        cfg=4.0,
        sampler="euler",
        scheduler="simple",
        owners=(f"{split}/diffusion_models", f"{split}/text_encoders", f"{split}/vae"),
        texts=("qwen_2.5_vl_7b_fp8_scaled.safetensors",),
        vae="qwen_image_vae.safetensors",
        kind="qwen_image",
        shift=3.1,
    )


def klein() -> Files:
    """Flux.2 klein with 4 billion weights, which is distilled."""
    split = "Comfy-Org/flux2-klein/resolve/main/split_files"
    return Transformer(
        "94 Flux.2 klein",
        "flux-2-klein-4b.safetensors",
        "",
        "my_subject_flux2_klein.safetensors",
        1024,
        SETTINGS,
        steps=4,
        cfg=1.0,
        sampler="euler",
        scheduler="simple",
        owners=(
            f"{split}/diffusion_models",
            f"{split}/text_encoders",
            "Comfy-Org/flux2-dev/resolve/main/split_files/vae",
        ),
        texts=("qwen_3_4b.safetensors",),
        vae="flux2-vae.safetensors",
        kind="flux2",
        empty="EmptyFlux2LatentImage",
    )


def flux1() -> Files:
    """Flux.1-dev, whose guidance is an input of the network."""
    texts = "comfyanonymous/flux_text_encoders/resolve/main"
    return Transformer(
        "95 Flux.1 dev",
        "flux1-dev.safetensors",
        "",
        "my_subject_flux1.safetensors",
        1024,
        SETTINGS,
        steps=20,
        cfg=1.0,
        sampler="euler",
        scheduler="simple",
        owners=(
            "Comfy-Org/flux1-dev/resolve/main",
            texts,
            texts,
            "Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae",
        ),
        texts=("clip_l.safetensors", "t5xxl_fp16.safetensors"),
        vae="ae.safetensors",
        kind="flux",
    )


def sd35() -> Files:
    """SD 3.5 medium, in one file."""
    return Whole(
        "96 SD 3.5 medium",
        "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
        "Comfy-Org/stable-diffusion-3.5-fp8",
        "my_subject_sd35.safetensors",
        1024,
        _SETTINGS.format("SD 3.5 large"),
        steps=20,
        cfg=4.0,
        sampler="euler",
        scheduler="sgm_uniform",
    )


FILES: tuple[Callable[[], Files], ...] = (z_image, krea2, qwen_image, klein, flux1, sd35)
