"""Trains the judge on renders: attributes, extras, masks, and the resemblance of two pictures' subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..judge.metrics import ranking_auc
from ..judge.network import WEIGHTS, Judge, Network
from ..launcher.files import commit
from ..precision import autocast
from ..world.extras import EXTRAS
from ..world.look_alikes import GROUP, VARIANTS, VIEWS, group_of, resemblance, scene_of_group
from ..world.scene import CLASSES, COLORS, PATTERNS, PLACES, Scene, Subject
from .autoencoder import to_tensor
from .loop import Trainer, write_weights
from .pool import Pool

SCENES = 24_000
_GROUPS_PER_STEP, _LOOK_ALIKES_PER_GROUP = 10, 2
_CLOSE = 0.5
_SAME, _UNSURE = 0.88, 0.06
"""Cosine from which two pictures count as one subject's, and the width of the transition."""
_WAVES = 0.06
"""Standard deviation of the strongest waves as a fraction of half the picture: four pixels."""
_IDENTITY_WEIGHT, _APART_WEIGHT, _EXTRAS_WEIGHT = 8.0, 0.5, 2.0


def degrade(images: torch.Tensor) -> torch.Tensor:
    """Degrades images [n, 3, h, w] as an autoencoder and a small diffusion model do: blur, contrast, color shifts,
    noise.

    The color shifts stay well below the distance at which two tints are two subjects.
    """
    n, device = len(images), images.device
    pick = torch.rand(n, 1, 1, 1, device=device)
    soft = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2.0, mode="bilinear")
    softer = F.interpolate(F.avg_pool2d(images, 4), scale_factor=4.0, mode="bicubic").clamp(-1, 1)
    images = torch.where(pick < 0.35, images, torch.where(pick < 0.8, soft, 0.6 * softer + 0.4 * soft))
    images = images * (1 + 0.02 * torch.randn(n, 3, 1, 1, device=device)) + 0.02 * torch.randn(
        n, 3, 1, 1, device=device
    )
    images = images * (0.88 + 0.16 * torch.rand(n, 1, 1, 1, device=device))
    patches = F.interpolate(torch.randn(n, 3, 16, 16, device=device), scale_factor=8.0, mode="bilinear")
    strength = torch.rand(2, n, 1, 1, 1, device=device)
    return images + 0.1 * strength[0] * patches + 0.03 * strength[1] * torch.randn_like(images)


def warped(images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Warps images [n, 3, h, w] and masks [n, 1, h, w], most of them with outlines as wavy as a small model draws
    them."""
    n, device = len(images), images.device
    long, short = (
        F.interpolate(torch.randn(n, 2, k, k, device=device), images.shape[2:], mode="bicubic") for k in (8, 20)
    )
    waves = long + 0.3 * short
    strength = _WAVES * torch.rand(n, 1, 1, 1, device=device) * (torch.rand(n, 1, 1, 1, device=device) < 0.8)
    still = F.affine_grid(torch.eye(2, 3, device=device).expand(n, 2, 3), list(images.shape), align_corners=False)
    places = still + (waves * strength).movedim(1, -1)
    drawn = F.grid_sample(torch.cat([images, masks], 1), places, padding_mode="border", align_corners=False)
    return drawn[:, :3], drawn[:, 3:]


def graded(embeddings: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Loss between the cosines of unit embeddings [n, d] and the wanted resemblances [n, n].

    The mean square over pairs of close subjects, which are few, plus the mean square over all others. The target is
    graded: a loss that pulls only equal subjects together may rank a near match below a stranger.
    """
    error = (embeddings.float() @ embeddings.float().T - wanted).square()
    pairs = ~torch.eye(len(wanted), dtype=torch.bool, device=wanted.device)
    close = pairs & (wanted > _CLOSE)
    far = pairs & ~close
    return error[close].sum() / close.sum().clamp(min=1) + error[far].sum() / far.sum().clamp(min=1)


def told_apart(embeddings: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Loss of telling one subject from its look-alikes by the cosine of unit embeddings [n, d].

    Logistic, and the mean over both kinds of pairs: the graded loss spends little on the last, small differences.
    """
    certainty = (embeddings.float() @ embeddings.float().T - _SAME) / _UNSURE
    same = (wanted == 1) & ~torch.eye(len(wanted), dtype=torch.bool, device=wanted.device)
    alike = (wanted > _CLOSE) & (wanted < 1)
    losses = (F.softplus(-certainty)[same], F.softplus(certainty)[alike])
    return sum((loss.sum() / max(1, len(loss)) for loss in losses), torch.zeros((), device=wanted.device))


def resemblances(subjects: list[Subject]) -> torch.Tensor:
    """Resemblances [n, n] of all pairs."""
    return torch.tensor([[resemblance(one, other) for other in subjects] for one in subjects])


def train(work: Path, steps: int, device: torch.device) -> None:
    """Writes demo/weights/judge.safetensors and prints its accuracies on held-out renders."""
    pool = Pool(work, SCENES, scene_of=scene_of_group, name="look-alikes")
    scenes = [scene_of_group(i, 0) for i in range(SCENES)]
    targets = {
        name: torch.tensor([_attribute(s, name) for s in scenes], device=device)
        for name in ("class", "colour", "pattern", "place")
    }
    extras = torch.tensor([[float(name in s.extras) for name in EXTRAS] for s in scenes], device=device)
    torch.manual_seed(0)
    network = Network().to(device)
    trainer = Trainer("judge", work, network, steps, 2e-3, device, decay=0.4, average=0.995)

    def loss_of_step(step: int) -> torch.Tensor:
        rng = np.random.default_rng(step)
        groups = rng.choice(SCENES // GROUP, _GROUPS_PER_STEP, replace=False)
        indices = views_of(groups, rng)
        masks = torch.from_numpy(pool.masks(indices)).to(device).float().div(255)
        images, masks = warped(to_tensor(pool.images(indices), device), masks[:, None])
        images, masks = degrade(images), masks[:, 0]
        with autocast(device):
            logits, mask, embedding = network(images)
        loss = F.binary_cross_entropy_with_logits(mask.float()[:, 0], F.avg_pool2d(masks, 4))
        for name, wanted in targets.items():
            loss = loss + 0.5 * F.cross_entropy(logits[name].float(), wanted[indices], label_smoothing=0.02)
        found = logits["extras"].float()
        loss = loss + _EXTRAS_WEIGHT * F.binary_cross_entropy_with_logits(found, extras[indices])
        shown = [scenes[i].subject for i in indices[::VIEWS]]
        wanted = resemblances(shown).repeat_interleave(VIEWS, 0).repeat_interleave(VIEWS, 1).to(device)
        return loss + _IDENTITY_WEIGHT * graded(embedding, wanted) + _APART_WEIGHT * told_apart(embedding, wanted)

    trainer.run(loss_of_step)
    figures = held_out_figures(Judge(network.cpu()), work)
    print("judge: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()), flush=True)
    metadata = {"tinyland_judge": figures, "commit": commit(), "seed": "0", "steps": str(steps)}
    write_weights(network.state_dict(), WEIGHTS, metadata)


def views_of(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the scenes of a step: of each group its subject and some look-alikes, in all their views.

    Not all of the look-alikes: they would leave room for few groups, and so for few classes.
    """
    order = rng.permuted(np.tile(np.arange(1, VARIANTS), (len(groups), 1)), axis=1)[:, :_LOOK_ALIKES_PER_GROUP]
    variants = np.concatenate([np.zeros((len(groups), 1), int), order], 1)
    return ((groups[:, None] * GROUP + variants * VIEWS)[..., None] + np.arange(VIEWS)).ravel()


def _attribute(scene: Scene, name: str) -> int:
    subject = scene.subject
    return {
        "class": lambda: CLASSES.index(subject.name),
        "colour": lambda: tuple(COLORS).index(subject.color),
        "pattern": lambda: PATTERNS.index(subject.pattern),
        "place": lambda: PLACES.index(scene.place),
    }[name]()


def held_out_figures(judge: Judge, work: Path, count: int = 2000) -> dict[str, float]:
    """Accuracy by attribute and of all extras on unseen renders, and the AUC of identity against random subjects and
    against look-alikes."""
    pool = Pool(work, count, seed=1, scene_of=scene_of_group, name="look-alikes")
    verdict = judge.look(pool.images(np.arange(count)))
    scenes = [scene_of_group(i, 1) for i in range(count)]
    figures = {}
    for name in ("class", "colour", "pattern", "place"):
        wanted = np.array([_attribute(s, name) for s in scenes])
        figures[f"{name}_accuracy"] = float((getattr(verdict, f"{name}_index") == wanted).mean())
    there = np.array([[name in s.extras for name in EXTRAS] for s in scenes])
    figures["extras_accuracy"] = float((verdict.extras == there).all(1).mean())
    vectors = verdict.embedding.reshape(-1, VARIANTS, VIEWS, verdict.embedding.shape[1])
    same = (vectors[:, :, 0] * vectors[:, :, 1]).sum(-1).ravel()
    other = (vectors[:, :, 0] * np.roll(vectors[:, :, 1], 1, axis=0)).sum(-1).ravel()
    alike = (vectors[:, :1, 0] * vectors[:, 1:, 1]).sum(-1).ravel()
    subjects = [group_of(i // VARIANTS, 1)[i % VARIANTS] for i in range(0, count // VIEWS, 2)]
    one, two = (vectors[:, :, view].reshape(-1, vectors.shape[-1])[::2] for view in (0, 1))
    apart = ~np.eye(len(subjects), dtype=bool)
    agreement = np.corrcoef((one @ two.T)[apart], resemblances(subjects).numpy()[apart])[0, 1]
    return figures | {
        "identity_auc": ranking_auc(same, other),
        "look_alike_auc": ranking_auc(same, alike),
        "look_alike_above_stranger_auc": ranking_auc(alike.ravel(), other),
        "resemblance_correlation": float(agreement),
    }
