"""Trains Tinyland's joint model (JeDi, arXiv 2407.06187): the denoiser, fine-tuned on sets that it denoises
together."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import comfy.ops
import numpy as np
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....patching.jedi.format import IN_CHANNELS, JointFormat
from ....patching.tinyland.model import unet_config
from ...launcher.files import digest
from ...world.captions import caption
from ..denoiser import latents_of, plain_attention, schedule, subject_weight, velocity_loss, weights_digest
from ..loop import WEIGHTS, Trainer
from ..personal import load_denoiser
from ..pool import Pool, SceneOf, sources
from .network import FIRST_LAYER, ORDER, JointCall, draw_missing, weight_on, widened
from .scenes import VIEWS, scene_of_set

if TYPE_CHECKING:
    from comfy.ldm.models.autoencoder import AutoencoderKL

SETS = 6000
PICTURES = 24
"""Pictures per step, for every set size."""
SIZES, SHARES = (1, 2, 3, 4), (0.1, 0.3, 0.3, 0.3)
"""Set sizes and their shares. Single pictures keep guidance's pass without references in distribution."""
LEARNING_RATE = 4e-4
TEXT_DROPOUT = 0.1
"""Probability that all captions of a set are dropped together."""


def joint_unet(vanilla: UNetModel, device: torch.device) -> UNetModel:
    """Builds the network with nine input channels; before training, given members have no effect."""
    config = {**unet_config(), "in_channels": IN_CHANNELS}
    unet = UNetModel(**config, dtype=torch.float32, device=device, operations=comfy.ops.disable_weight_init)
    state = vanilla.state_dict()
    unet.load_state_dict({**state, FIRST_LAYER: widened(state[FIRST_LAYER])})
    return unet


def attention_options(device: torch.device) -> dict:
    """`transformer_options` with the attention that is fastest in training."""
    return {"optimized_attention_override": plain_attention} if device.type == "cpu" else {}


def drawn_sets(step: int) -> tuple[np.ndarray, int, Random]:
    """Draws a step: pictures of the pool [sets * members], set by set; the number of members per set; and the step's
    rng."""
    rng = Random(step)
    members = rng.choices(SIZES, SHARES)[0]
    numbers = rng.sample(range(SETS), PICTURES // members)
    return np.array([VIEWS * n + view for n in numbers for view in rng.sample(range(VIEWS), members)]), members, rng


def set_captions(indices: np.ndarray, members: int, rng: Random, scene_of: SceneOf = scene_of_set) -> list[str]:
    """Draws a caption for each picture; those of a set are dropped together."""
    kept = [rng.random() >= TEXT_DROPOUT for _ in range(len(indices) // members)]
    return [caption(scene_of(int(i), 0), rng) if kept[row // members] else "" for row, i in enumerate(indices)]


def metadata() -> dict[str, str]:
    """Metadata of the file, beyond that of all the pack's files."""
    return {"denoiser": weights_digest(), **JointFormat(ORDER).metadata()}


def train(
    work: Path,
    steps: int,
    autoencoder: AutoencoderKL,
    device: torch.device,
    loss_on: str = "all",
    scene_of: SceneOf = scene_of_set,
    kind: str = "joint",
) -> UNetModel:
    """Trains the joint U-Net and returns it; resumes a run on the same denoiser.

    loss_on: members in the loss, "all" or "missing". A set in which every member is given is drawn again
    (`network.draw_missing`). scene_of: scenes, VIEWS per set. kind: name of the run's files.
    """
    pool = Pool(work, SETS * VIEWS, scene_of=scene_of, name=kind)
    stored = f"{kind}-latents-{SETS}-{digest(WEIGHTS / 'autoencoder.safetensors', *sources(scene_of))}.pt"
    latents = latents_of(pool, work / stored, autoencoder, device)
    vanilla = load_denoiser(device)
    unet, sigmas, options = joint_unet(vanilla.unet, device), schedule(device), attention_options(device)
    name = f"{kind}-{weights_digest()}" if loss_on == "all" else f"{kind}-{loss_on}-{weights_digest()}"
    trainer = Trainer(name, work, unet, steps, LEARNING_RATE, device, decay=0.4, average=0.9985)

    def loss_of_step(step: int) -> torch.Tensor:
        indices, members, rng = drawn_sets(step)
        with torch.no_grad():
            context = vanilla.encode(set_captions(indices, members, rng, scene_of), device)
        clean, missing = latents[indices], draw_missing(len(indices) // members, members, device)
        weight = weight_on(loss_on, missing, subject_weight(pool.masks(indices), device))
        call = JointCall(unet, clean, missing, members, options)
        return velocity_loss(call, clean, context, sigmas, weight, members)

    trainer.run(loss_of_step)
    return unet
