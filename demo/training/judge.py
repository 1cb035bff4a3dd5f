"""Trains the judge on renders: attributes, masks, and which pictures show one subject (supervised contrast, arXiv 2004.11362)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..judge.metrics import ranking_auc
from ..judge.network import WEIGHTS, Judge, Network
from ..look_alikes import GROUP, VARIANTS, VIEWS, scene_of_group
from ..world import CLASSES, COLOURS, PATTERNS, PLACES, Scene
from .autoencoder import to_tensor
from .loop import Trainer, commit, write_weights
from .pool import Pool

SCENES = 12_000
_GROUPS_PER_STEP = 12
_TEMPERATURE = 0.1


def degrade(images: torch.Tensor) -> torch.Tensor:
    """Blur, colour shifts and noise, as an autoencoder and a small diffusion model leave them; images [n, 3, h, w].

    The colour shifts stay well below the distance at which two tints are two subjects.
    """
    n, device = len(images), images.device
    pick = torch.rand(n, 1, 1, 1, device=device)
    soft = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear")
    softer = F.interpolate(F.avg_pool2d(images, 4), scale_factor=4.0, mode="bicubic").clamp(-1, 1)
    images = torch.where(pick < 0.35, images, torch.where(pick < 0.8, soft, 0.6 * softer + 0.4 * soft))
    images = images * (1 + 0.02 * torch.randn(n, 3, 1, 1, device=device)) + 0.02 * torch.randn(n, 3, 1, 1, device=device)
    patches = F.interpolate(torch.randn(n, 3, 16, 16, device=device), scale_factor=8.0, mode="bilinear")
    strength = torch.rand(2, n, 1, 1, 1, device=device)
    return images + 0.05 * strength[0] * patches + 0.03 * strength[1] * torch.randn_like(images)


def contrast(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Supervised contrastive loss, equation 2 of arXiv 2004.11362, on embeddings [n, d] of length 1."""
    logits = embeddings @ embeddings.T / _TEMPERATURE
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = logits.masked_fill(itself, -1e4)
    positive = (labels[:, None] == labels[None]) & ~itself
    log_probability = F.log_softmax(logits, 1)
    return -(log_probability * positive).sum(1).div(positive.sum(1).clamp(min=1)).mean()


def train(work: Path, steps: int, device: torch.device) -> None:
    """Writes demo/weights/judge.safetensors and prints its accuracies on held-out renders."""
    pool = Pool(work, SCENES, scene_of=scene_of_group, name="look-alikes")
    scenes = [scene_of_group(i, 0) for i in range(SCENES)]
    targets = {name: torch.tensor([_attribute(s, name) for s in scenes], device=device) for name in ("class", "colour", "pattern", "place")}
    torch.manual_seed(0)
    network = Network().to(device)
    trainer = Trainer("judge", work, network, steps, 2e-3, device, decay=0.4, average=0.995)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = np.random.default_rng(step)
        groups = rng.choice(SCENES // GROUP, _GROUPS_PER_STEP, replace=False)
        # A subject and one look-alike of each group: few groups with all of theirs would show few classes at a time.
        others = groups * GROUP + rng.integers(1, VARIANTS, _GROUPS_PER_STEP) * VIEWS
        indices = (np.stack([groups * GROUP, others], 1)[..., None] + np.arange(VIEWS)).ravel()
        images = degrade(to_tensor(pool.images(indices), device))
        masks = torch.from_numpy(pool.masks(indices)).to(device).float().div(255)
        with torch.autocast(device.type, torch.bfloat16):
            logits, mask, embedding = network(images)
        loss = F.binary_cross_entropy_with_logits(mask.float()[:, 0], F.avg_pool2d(masks, 4))
        for name, wanted in targets.items():
            loss = loss + 0.5 * F.cross_entropy(logits[name].float(), wanted[indices], label_smoothing=0.02)
        return loss + contrast(embedding, torch.from_numpy(indices // VIEWS).to(device))

    trainer.run(loss_of_step)
    figures = held_out_figures(Judge(network.cpu()), work)
    print("judge: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()), flush=True)
    metadata = {"tinyland_judge": figures, "commit": commit(), "seed": "0", "steps": str(steps)}
    write_weights(network.state_dict(), WEIGHTS, metadata)


def _attribute(scene: Scene, name: str) -> int:
    subject = scene.subject
    return {
        "class": lambda: CLASSES.index(subject.name),
        "colour": lambda: tuple(COLOURS).index(subject.colour),
        "pattern": lambda: PATTERNS.index(subject.pattern),
        "place": lambda: PLACES.index(scene.place),
    }[name]()


def held_out_figures(judge: Judge, work: Path, count: int = 2000) -> dict[str, float]:
    """Accuracy by attribute, and how well identity separates subjects at random and from their look-alikes, on unseen renders."""
    pool = Pool(work, count, seed=1, scene_of=scene_of_group, name="look-alikes")
    verdict = judge.look(pool.images(np.arange(count)))
    scenes = [scene_of_group(i, 1) for i in range(count)]
    figures = {}
    for name in ("class", "colour", "pattern", "place"):
        wanted = np.array([_attribute(s, name) for s in scenes])
        figures[f"{name}_accuracy"] = float((getattr(verdict, f"{name}_index") == wanted).mean())
    vectors = verdict.embedding.reshape(-1, VARIANTS, VIEWS, verdict.embedding.shape[1])
    same = (vectors[:, :, 0] * vectors[:, :, 1]).sum(-1).ravel()
    other = (vectors[:, :, 0] * np.roll(vectors[:, :, 1], 1, axis=0)).sum(-1).ravel()
    alike = (vectors[:, :1, 0] * vectors[:, 1:, 1]).sum(-1).ravel()
    return figures | {"identity_auc": ranking_auc(same, other), "look_alike_auc": ranking_auc(same, alike)}
