"""Personalizes Tinyland: LoRAs and full fine-tunes (DreamBooth, arXiv 2208.12242) and Textual-Inversion embeddings.

Each sees only four pictures of one place and one pose: it overfits, deliberately. A LoRA may see pictures of the class
beside them (prior preservation).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.utils import parametrize

from ..launcher.files import commit, digest
from ..world.captions import PLACEHOLDER
from ..world.scene import render
from ..world.subjects import SUBJECTS, PersonalSubject
from .autoencoder import moments, to_tensor
from .denoiser import MAX_TOKENS, Denoiser, load_weights, schedule, subject_weight, velocity_loss, weights_digest
from .loop import WEIGHTS, Trainer, write_weights
from .prior import Prior, prior_of

if TYPE_CHECKING:
    from comfy.ldm.models.autoencoder import AutoencoderKL

RANK = 3
CROSS_ATTENTION = "cross-attention"
"""Folder of `train_cross_attention` in the work folder, and the part's name."""
BATCH = 8
EMBEDDING_VECTORS = 4
ALL, ENCODER = "all", "encoder"
ADAPTED = {
    ALL: re.compile(r"transformer_blocks|in_layers\.2$|out_layers\.3$"),
    ENCODER: re.compile(r"attn[12]\.|^input_blocks\..*(in_layers\.2|out_layers\.3)$"),
}
"""Adapted layers: attention, and the convolutions of all residual blocks, or of the encoder's, which overfit the
place."""
_TEXT_PROJECTIONS = re.compile(r"attn2\.to_[kv]$")


class LowRank(torch.nn.Module):
    """W + up @ down for one weight; a parametrization, so the network's own layers stay unchanged."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.down = torch.nn.Parameter(torch.randn(RANK, weight[0].numel(), device=weight.device) / RANK)
        self.up = torch.nn.Parameter(torch.zeros(weight.shape[0], RANK, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def load_denoiser(device: torch.device) -> Denoiser:
    """Loads the trained vanilla model, frozen."""
    return load_weights(Denoiser(device), device).requires_grad_(False)


@torch.no_grad()
def reference_latents(
    subject: PersonalSubject, autoencoder: AutoencoderKL, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """[4, 4, 16, 16] latents of the four reference pictures, and the loss weights [4, 1, 16, 16] of their pixels."""
    views = [render(scene) for scene in subject.training_scenes()]
    latents = moments(autoencoder, to_tensor(np.stack([view.image for view in views]), device))[0]
    return latents, subject_weight(np.stack([view.mask for view in views]), device)


def _train(
    kind: str,
    subject: PersonalSubject,
    modules: torch.nn.Module,
    loss_of_step: Callable[[int], torch.Tensor],
    steps: int,
    learning_rate: float,
    work: Path,
    origin: str,
) -> float:
    """Trains, or resumes training, and returns the mean loss of the last 50 steps."""
    parameters = list(modules.parameters())

    def rate_of_step(step: int) -> float:
        return learning_rate * min(1.0, (step + 1) / 20, 4 * (steps - step) / steps)

    trainer = Trainer(
        f"{kind}-{subject.name}-{origin}",
        work,
        modules,
        steps,
        learning_rate,
        parameters[0].device,
        average=0.0,
        optimizer=torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0),
        rate_of_step=rate_of_step,
        longest_gradient=float("inf"),
        log_every=1,
    )
    trainer.run(loss_of_step)
    loss = float(np.mean([value for _, value in trainer.losses[-50:]]))
    print(f"{subject.name}: {steps} steps, loss {loss:.4f}", flush=True)
    return loss


def _origin_of(
    subject: PersonalSubject, autoencoder: AutoencoderKL, device: torch.device, recipe: tuple[object, ...] = ()
) -> str:
    """Digest of the tuned weights, the pictures, the autoencoder, the recipe and this code, so that only a matching
    run is resumed."""
    latents, _ = reference_latents(subject, autoencoder, device)
    seen = hashlib.sha256(latents.float().cpu().numpy().tobytes())
    seen.update((weights_digest() + digest(Path(__file__)) + "".join(map(str, recipe))).encode())
    return seen.hexdigest()[:8]


def _loss_on(
    subject: PersonalSubject,
    model: Denoiser,
    contexts: Callable[[], torch.Tensor],
    autoencoder: AutoencoderKL,
    device: torch.device,
    prior: Prior | None = None,
) -> Callable[[int], torch.Tensor]:
    """Loss of a step on pictures of the subject, each with one of the captions of `contexts`, [captions, tokens,
    width]. It has as many pictures of `prior`, with their own captions."""
    latents, weight = reference_latents(subject, autoencoder, device)
    sigmas = schedule(device)
    with torch.no_grad():
        known = None if prior is None else model.encode(prior.captions, device)

    def loss_of_step(step: int) -> torch.Tensor:
        rng, context = Random(step), contexts()
        rows = [rng.randrange(len(latents)) for _ in range(BATCH)]
        shown, text, weights = latents[rows], context[[rng.randrange(len(context)) for _ in rows]], weight[rows]
        if prior is not None and known is not None:
            others = [rng.randrange(len(known)) for _ in rows]
            shown, text = torch.cat([shown, prior.latents[others]]), torch.cat([text, known[others]])
            weights = torch.cat([weights, torch.ones_like(weights)])
        return velocity_loss(model, shown, text, sigmas, weights)

    return loss_of_step


def train_lora(
    work: Path,
    name: str,
    steps: int,
    autoencoder: AutoencoderKL,
    device: torch.device,
    prior: int = 0,
    convolutions: str = ALL,
) -> None:
    """Writes demo/weights/subjects/NAME.safetensors, a LoRA that ComfyUI's own loaders read.

    prior: number of pictures of the class to learn beside. convolutions: ALL or ENCODER.
    """
    subject = SUBJECTS[name]
    model = load_denoiser(device)
    torch.manual_seed(0)
    adapters: dict[str, LowRank] = {}
    for path, layer in list(model.unet.named_modules()):
        matrix = getattr(layer, "weight", None)
        if isinstance(matrix, torch.Tensor) and matrix.ndim in (2, 4) and ADAPTED[convolutions].search(path):
            adapters[path] = LowRank(matrix)
            parametrize.register_parametrization(layer, "weight", adapters[path], unsafe=True)
    # As in DreamBooth no caption names the place, so it is learned with the subject.
    context = model.encode([subject.neutral], device)

    beside = prior_of(subject.subject.name, prior, work, model, device) if prior else None
    loss_of_step = _loss_on(subject, model, lambda: context, autoencoder, device, beside)
    origin = _origin_of(subject, autoencoder, device, (prior, convolutions) if prior or convolutions != ALL else ())
    loss = _train("lora", subject, torch.nn.ModuleList(adapters.values()), loss_of_step, steps, 2e-3, work, origin)
    tensors = {}
    for path, adapter in adapters.items():
        tensors[f"diffusion_model.{path}.lora_up.weight"] = adapter.up
        tensors[f"diffusion_model.{path}.lora_down.weight"] = adapter.down
    facts = _metadata(subject, steps, loss) | {"prior": str(prior), "convolutions": convolutions}
    write_weights(tensors, WEIGHTS / "subjects" / f"{name}.safetensors", facts)


def train_cross_attention(
    work: Path, name: str, steps: int, autoencoder: AutoencoderKL, device: torch.device, prior: int = 0
) -> Path:
    """Writes cross-attention/NAME.safetensors in the work folder: the keys and values of the text alone are tuned.

    Custom Diffusion (arXiv 2212.04488) tunes these, beside pictures of the class. prior: their number.
    """
    subject = SUBJECTS[name]
    model = load_denoiser(device)
    layers = {path: m for path, m in model.unet.named_modules() if _TEXT_PROJECTIONS.search(path)}
    context = model.encode([subject.neutral], device)
    beside = prior_of(subject.subject.name, prior, work, model, device) if prior else None
    loss_of_step = _loss_on(subject, model, lambda: context, autoencoder, device, beside)
    origin, modules = _origin_of(subject, autoencoder, device, (prior,)), torch.nn.ModuleList(layers.values())
    modules.requires_grad_(True)
    loss = _train("cross-attention", subject, modules, loss_of_step, steps, 1e-3, work, origin)
    tensors = {f"model.diffusion_model.{path}.weight": layer.weight for path, layer in layers.items()}
    path = work / CROSS_ATTENTION / f"{name}.safetensors"
    write_weights(tensors, path, _metadata(subject, steps, loss) | {"prior": str(prior)})  # pyright: ignore[reportArgumentType]
    return path


def train_full(name: str, steps: int, autoencoder: AutoencoderKL, device: torch.device, folder: Path) -> Path:
    """Writes FOLDER/NAME.safetensors: the whole U-Net tuned on the subject, with the bundled model's key names."""
    subject = SUBJECTS[name]
    model = load_denoiser(device)
    context = model.encode([subject.neutral], device)
    model.unet.requires_grad_(True)

    loss_of_step = _loss_on(subject, model, lambda: context, autoencoder, device)
    loss = _train(
        "full", subject, model.unet, loss_of_step, steps, 3e-4, folder, _origin_of(subject, autoencoder, device)
    )
    tensors = {f"model.diffusion_model.{k}": v for k, v in model.unet.state_dict().items()}
    path = folder / f"{name}.safetensors"
    write_weights(tensors, path, _metadata(subject, steps, loss))
    # A checkpoint is three times as large as the written file and no longer needed.
    for checkpoint in folder.glob(f"full-{name}-*.checkpoint.pt"):
        checkpoint.unlink()
    return path


def _metadata(subject: PersonalSubject, steps: int, loss: float) -> dict[str, str]:
    facts = {
        "name": subject.name,
        "class": subject.subject.name,
        "place": subject.place,
        "placeholder": PLACEHOLDER,
        "prompt": subject.neutral,
    }
    return {"tinyland_subject": json.dumps(facts), **_origin(steps, loss)}


def _origin(steps: int, loss: float) -> dict[str, str]:
    return {"commit": commit(), "seed": "0", "steps": str(steps), "loss": f"{loss:.4f}", "denoiser": weights_digest()}


def train_embedding(work: Path, name: str, steps: int, autoencoder: AutoencoderKL, device: torch.device) -> None:
    """Writes demo/weights/embeddings/NAME.safetensors for `embedding:NAME` (Textual Inversion, arXiv 2208.01618)."""
    subject = SUBJECTS[name]
    model = load_denoiser(device)
    words = model.text.text_model.embeddings
    start = words.token_embedding.weight[model.tokenizer.ids[subject.subject.name]].detach()
    vectors = torch.nn.Parameter(
        start.repeat(EMBEDDING_VECTORS, 1) + 0.01 * torch.randn(EMBEDDING_VECTORS, len(start)).to(device)
    )
    # No caption names the place, as in `train_lora`.
    before = torch.tensor(model.tokenizer("a photo of a")["input_ids"][:-1], device=device)
    end = words.token_embedding.weight[1]

    def context() -> torch.Tensor:
        row = torch.cat([words.token_embedding.weight[before], vectors])
        row = torch.cat([row, end.expand(MAX_TOKENS - len(row), -1)])
        return model.features((row + words.position_embedding.weight).unsqueeze(0))

    loss_of_step = _loss_on(subject, model, context, autoencoder, device)
    origin = _origin_of(subject, autoencoder, device)
    loss = _train("embedding", subject, torch.nn.ParameterList([vectors]), loss_of_step, steps, 2e-2, work, origin)
    facts = {"name": name, "class": subject.subject.name, "place": subject.place}
    metadata = {"tinyland_embedding": json.dumps(facts), **_origin(steps, loss)}
    write_weights({"clip_l": vectors}, WEIGHTS / "embeddings" / f"{name}.safetensors", metadata)
