"""Trains a joint model (JeDi, arXiv 2407.06187) of an SD1.x or SDXL checkpoint on sets.

Weights, gradients, AdamW's two moments and the average are float32, 20 bytes per parameter: 17 GB for SD1.x and
51 GB for SDXL, plus activations.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

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
from .sets import stamps
from .sources import JointSet

if TYPE_CHECKING:
    from comfy.sd import CLIP

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
class Texts:
    """Encoded captions: context [rows, TOKENS, width] and, for SDXL alone, pooled [rows, channels]."""

    context: torch.Tensor
    pooled: torch.Tensor | None = None

    def to(self, device: torch.device) -> Texts:
        return Texts(self.context.to(device), None if self.pooled is None else self.pooled.to(device))

    def repeated(self, rows: int) -> Texts:
        """One text for each row."""
        pooled = None if self.pooled is None else self.pooled.expand(rows, -1)
        return Texts(self.context.expand(rows, -1, -1), pooled)

    @staticmethod
    def of(tensors: dict[str, torch.Tensor], rows: list[int] | slice = slice(None)) -> Texts:
        """Texts of a file's tensors."""
        return Texts(tensors["context"][rows].float(), tensors["pooled"][rows].float() if "pooled" in tensors else None)


@dataclass(frozen=True)
class Encoded:
    """Encoded set in the work folder: latents [members, 4, height, width] and its captions."""

    path: Path
    members: int

    def read(self, chosen: list[int], device: torch.device) -> tuple[torch.Tensor, Texts]:
        """Latents and texts of the chosen members."""
        tensors = load_file(self.path)
        return tensors["latents"][chosen].to(device).float(), Texts.of(tensors, chosen).to(device)


def _key(*facts: object, files: tuple[Path, ...] = ()) -> str:
    """Digest of the facts and of the files' names, sizes and times; the files may be too large to hash."""
    return hashlib.sha256(repr([*facts, *stamps(*files)]).encode()).hexdigest()[:16]


def encode(work: Path, sets: Sequence[JointSet], source: Source, resolution: int) -> tuple[list[Encoded], Texts]:
    """Encodes the latents and captions of the sets, each once; also returns the text of no caption."""
    folder = work / f"sets-{_key(resolution, files=(source.path,))}"
    folder.mkdir(parents=True, exist_ok=True)
    encoded = [Encoded(folder / f"{s.name}-{_key(*s.identity)}.safetensors", s.members) for s in sets]
    without = folder / "no-caption.safetensors"
    missing = [(s, e.path) for s, e in zip(sets, encoded, strict=True) if not e.path.exists()]
    if missing or not without.exists():
        print(f"encoding {len(missing)} sets", flush=True)
        with torch.inference_mode():
            clip, vae = source.encoders()
            _write(without, _texts(clip, ("",), source.is_sdxl))
            for pictures, path in missing:
                pixels = torch.from_numpy(pictures.pictures(resolution)).float() / 255
                latents = source.latent_format.process_in(vae.encode(pixels).cpu().float())
                _write(path, {"latents": latents, **_texts(clip, pictures.captions, source.is_sdxl)})
        comfy.model_management.unload_all_models()
    return encoded, Texts.of(load_file(without))


def _texts(clip: CLIP, captions: Sequence[str], pooled: bool) -> dict[str, torch.Tensor]:
    """Tensors of `Texts`."""
    found: list[Any] = [clip.encode_from_tokens(clip.tokenize(caption), return_pooled=True) for caption in captions]
    tensors = {"context": torch.cat([context[:, :TOKENS].cpu() for context, _ in found])}
    return {**tensors, "pooled": torch.cat([whole.cpu() for _, whole in found])} if pooled else tensors


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with replacing(path) as temporary:
        save_file({name: value.half().contiguous() for name, value in tensors.items()}, temporary)


def check_sizes(sources: Sequence[Sequence[JointSet]], sizes: tuple[int, ...]) -> None:
    """Checks the set sizes. Raises Problem if no set has as many members as the largest size."""
    largest = max(s.members for sets in sources for s in sets)
    if max(sizes) > largest:
        raise Problem(
            f"expected --set-sizes up to {largest}, the size of the largest set, got {max(sizes)}: leave the "
            "larger ones out."
        )


def train(
    work: Path, sources: Sequence[Sequence[JointSet]], source: Source, settings: Settings, device: torch.device
) -> UNetModel:
    """Trains the joint U-Net and returns it with averaged weights; resumes a run of the same sets and settings.

    sources: sets of each source; a step takes them from one, all with equal probability. A set in which every member is
    drawn as given is drawn again (`network.draw_missing`), also with loss_on "all".
    """
    check_sizes(sources, settings.set_sizes)
    sets = [one for sets in sources for one in sets]
    encoded, without = encode(work, sets, source, settings.resolution)
    mixed, start = [], 0
    for part in sources:
        mixed.append(largest_first(encoded[start : start + len(part)]))
        start += len(part)
    unet, sigmas, without = source.joint_unet(device), source.sigmas.to(device), without.to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), settings.learning_rate, weight_decay=1e-2)
    # Steps and learning rate may change in a resumed run; any other change starts a new one.
    run = replace(settings, steps=0, learning_rate=0.0)
    divided = [len(part) for part in sources] if len(sources) > 1 else []
    name = f"joint-{_key(run, *(s.place for s in sets), *divided, files=(source.path,))}"
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
        clean, texts, members = drawn(mixed, without, settings, Random(step), device)
        count = len(clean) // members
        missing = draw_missing(count, members, device)
        t = torch.randint(0, len(sigmas), (count,), device=device).repeat_interleave(members)
        weight = weight_on(settings.loss_on, missing)
        vector = None
        if texts.pooled is not None:
            vector = source.vector(texts.pooled, settings.resolution).to(device)
        call = JointCall(unet, clean, missing, members, differentiable({}), vector)
        return denoising_loss(call, clean, texts.context, t, sigmas[t], weight, source.velocity)

    with recomputed(unet) if source.recomputes else nullcontext():
        trainer.run(loss_of_step)
    return unet


def _fewer(encoded: Encoded) -> int:
    """Key of an order with the largest sets first."""
    return -encoded.members


def largest_first(encoded: Sequence[Encoded]) -> list[Encoded]:
    """The order of a source's sets that `drawn` takes."""
    return sorted(encoded, key=_fewer)


def drawn(
    sources: Sequence[Sequence[Encoded]], without: Texts, settings: Settings, rng: Random, device: torch.device
) -> tuple[torch.Tensor, Texts, int]:
    """Draws a step's sets: latents and texts, [batch * members, ...] each, and the number of members per set.

    sources: each with its largest sets first. One whose sets are smaller than all sizes gives sets of its own size, as
    single pictures do.
    """
    encoded = sources[0] if len(sources) == 1 else rng.choice(sources)
    most = encoded[0].members
    members = rng.choice([size for size in settings.set_sizes if size <= most] or [most])
    large = range(bisect_right(encoded, -members, key=_fewer))
    latents, texts = [], []
    for index in (
        rng.sample(large, settings.batch) if len(large) >= settings.batch else rng.choices(large, k=settings.batch)
    ):
        chosen = encoded[index]
        clean, said = chosen.read(rng.sample(range(chosen.members), members), device)
        latents.append(clean)
        texts.append(without.repeated(members) if rng.random() < settings.text_dropout else said)
    pooled = [one.pooled for one in texts if one.pooled is not None]
    joined = Texts(torch.cat([one.context for one in texts]), torch.cat(pooled) if pooled else None)
    return torch.cat(latents), joined, members
