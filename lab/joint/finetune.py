"""Trains a joint model (JeDi, arXiv 2407.06187) of an SD1.x checkpoint on a folder of sets.

Weights, gradients, AdamW's two moments and the average are float32, 20 bytes per parameter: 17 GB for SD1.x, plus
activations.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors.torch import load_file, save_file

from ...demo.launcher.files import Problem, replacing
from ...demo.training.denoiser import denoising_loss
from ...demo.training.jedi.network import JointCall, draw_missing, weight_on
from ...demo.training.loop import Trainer
from ...patching.host.frozen_autograd import differentiable
from .checkpoint import Source
from .recomputed import recomputed
from .sets import PictureSet

if TYPE_CHECKING:
    from comfy.sd import CLIP

STEPS = 20_000
TOKENS = 77
"""Longest caption in tokens; longer ones are cut, as in the training of SD1.x."""
_WARM_UP = 500


@dataclass(frozen=True)
class Settings:
    """Settings that the paper leaves open. resolution: side of a member in pixels; batch: sets per step; loss_on: all
    or missing."""

    steps: int
    resolution: int
    batch: int
    learning_rate: float
    set_sizes: tuple[int, ...]
    text_dropout: float
    loss_on: str


@dataclass(frozen=True)
class Encoded:
    """Encoded set in the work folder: latents [members, 4, height, width] and context [members, TOKENS, width]."""

    path: Path
    members: int

    def read(self, chosen: list[int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and context of the chosen members."""
        tensors = load_file(self.path)
        return tensors["latents"][chosen].to(device).float(), tensors["context"][chosen].to(device).float()


def _key(*facts: object, files: tuple[Path, ...]) -> str:
    """Digest of the facts and of the files' names, sizes and times; the files may be too large to hash."""
    seen = [*facts, *((str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files)]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def encode(work: Path, sets: list[PictureSet], source: Source, resolution: int) -> tuple[list[Encoded], torch.Tensor]:
    """Encodes the latents and captions of the sets, each once; also returns the context of no caption, [1, TOKENS,
    width]."""
    folder = work / f"sets-{_key(resolution, files=(source.path,))}"
    folder.mkdir(parents=True, exist_ok=True)
    named = [f"{s.path.stem}-{_key(files=(s.path, s.path.with_suffix('.txt')))}.safetensors" for s in sets]
    encoded = [Encoded(folder / name, s.members) for name, s in zip(named, sets, strict=True)]
    without = folder / "no-caption.safetensors"
    missing = [(s, e.path) for s, e in zip(sets, encoded, strict=True) if not e.path.exists()]
    if missing or not without.exists():
        print(f"encoding {len(missing)} sets", flush=True)
        with torch.inference_mode():
            clip, vae = source.encoders()
            _write(without, {"context": _context(clip, "")})
            for pictures, path in missing:
                pixels = torch.from_numpy(pictures.pictures(resolution)).float() / 255
                latents = source.latent_format.process_in(vae.encode(pixels).cpu().float())
                _write(
                    path,
                    {
                        "latents": latents,
                        "context": torch.cat([_context(clip, caption) for caption in pictures.captions]),
                    },
                )
        comfy.model_management.unload_all_models()
    return encoded, load_file(without)["context"].float()


def _context(clip: CLIP, caption: str) -> torch.Tensor:
    context = clip.encode_from_tokens(clip.tokenize(caption))
    assert isinstance(context, torch.Tensor)
    return context[:, :TOKENS].cpu()


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as temporary:
        save_file({name: value.half().contiguous() for name, value in tensors.items()}, temporary)


def check_sizes(sets: list[PictureSet], sizes: tuple[int, ...]) -> None:
    """Checks the set sizes. Raises Problem if no set has as many members as the largest size."""
    largest = max(s.members for s in sets)
    if max(sizes) > largest:
        raise Problem(
            f"expected --set-sizes up to {largest}, the size of the largest set, got {max(sizes)}: leave the "
            "larger ones out."
        )


def train(work: Path, sets: list[PictureSet], source: Source, settings: Settings, device: torch.device) -> UNetModel:
    """Trains the joint U-Net and returns it with averaged weights; resumes a run of the same sets and settings.

    A set in which every member is drawn as given is drawn again (`network.draw_missing`), also with loss_on "all".
    """
    check_sizes(sets, settings.set_sizes)
    encoded, without = encode(work, sets, source, settings.resolution)
    unet, sigmas, without = source.joint_unet(device), source.sigmas.to(device), without.to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), settings.learning_rate, weight_decay=1e-2)
    # Steps and learning rate may change in a resumed run; any other change starts a new one.
    run = replace(settings, steps=0, learning_rate=0.0)
    name = f"joint-{_key(run, *(s.path.resolve() for s in sets), files=(source.path,))}"
    trainer = Trainer(
        name,
        work,
        unet,
        settings.steps,
        settings.learning_rate,
        device,
        average=0.9999,
        save_every=1800.0,
        optimizer=optimizer,
        rate_of_step=lambda step: settings.learning_rate * min(1.0, (step + 1) / _WARM_UP),
        log_every=10,
    )

    def loss_of_step(step: int) -> torch.Tensor:
        clean, context, members = drawn(encoded, without, settings, Random(step), device)
        count = len(clean) // members
        missing = draw_missing(count, members, device)
        t = torch.randint(0, len(sigmas), (count,), device=device).repeat_interleave(members)
        weight = weight_on(settings.loss_on, missing)
        call = JointCall(unet, clean, missing, members, differentiable({}))
        return denoising_loss(call, clean, context, t, sigmas[t], weight, source.velocity)

    with recomputed(unet):
        trainer.run(loss_of_step)
    return unet


def drawn(
    encoded: list[Encoded], without: torch.Tensor, settings: Settings, rng: Random, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Draws a step's sets: latents and context, [batch * members, ...] each, and the number of members per set."""
    members = rng.choice(settings.set_sizes)
    large = [e for e in encoded if e.members >= members]
    latents, contexts = [], []
    for chosen in (
        rng.sample(large, settings.batch) if len(large) >= settings.batch else rng.choices(large, k=settings.batch)
    ):
        clean, context = chosen.read(rng.sample(range(chosen.members), members), device)
        latents.append(clean)
        contexts.append(without.expand_as(context) if rng.random() < settings.text_dropout else context)
    return torch.cat(latents), torch.cat(contexts), members
