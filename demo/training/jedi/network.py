"""What the training of every joint model shares (JeDi, arXiv 2407.06187, section 3): the wider network, its calls, and
what is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....kernels.jedi import CHANNELS, MASK_FIRST, arranged, given_channels, noisy_first
from ....patching.host.blocks import Layer, layers_of
from ....patching.host.family import Options
from ....patching.host.unet import UNET
from ....patching.jedi.coupling import Coupling
from ....patching.jedi.format import IN_CHANNELS

ORDER = MASK_FIRST
"""The paper's: mask, noisy latent, clean latent."""
FIRST_LAYER = "input_blocks.0.0.weight"


def widened(weight: torch.Tensor) -> torch.Tensor:
    """The first layer's weight [channels, 4, 3, 3] for the joint input, [channels, 9, 3, 3]: nothing but the noisy
    latent counts yet."""
    wide = weight.new_zeros(len(weight), IN_CHANNELS, *weight.shape[2:])
    wide[:, list(noisy_first(ORDER)[:CHANNELS])] = weight
    return wide


def attention_layers(unet: UNetModel) -> tuple[Layer, ...]:
    """Every layer with self-attention: the paper couples all of them."""
    return layers_of(UNET.blocks(unet))


@dataclass(frozen=True, eq=False)
class JointCall:
    """eps_theta(x_t, x_ref, m, t) (JeDi, arXiv 2407.06187, eq. 2) as a function of x_t, t and the captions, for the
    sets of one step.

    unet: with nine input channels. clean: [sets * members, 4, height, width], the members of a set one after the other;
    missing: [sets * members], 1 where a picture is to be generated. options: further `transformer_options`.
    """

    unet: UNetModel
    clean: torch.Tensor
    missing: torch.Tensor
    members: int
    options: Options

    def __call__(self, noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """noisy: [sets * members, 4, height, width], context: [sets * members, tokens, width]. Returns the shape of
        noisy."""
        network_input = torch.cat([noisy, given_channels(self.clean, self.missing).to(noisy)], 1)
        options = UNET.change_self_attention(
            self.options, attention_layers(self.unet), Coupling("run.py train joint", self.members)
        )
        return self.unet(arranged(network_input, ORDER), timesteps, context, transformer_options=options)


def draw_missing(sets: int, members: int, device: torch.device) -> torch.Tensor:
    """[sets * members], 1 with probability 1/2 for each member; a set with every member given is drawn again."""
    missing = torch.randint(0, 2, (sets, members), device=device)
    while not (drawn := missing.any(1)).all():
        missing = torch.where(drawn[:, None], missing, torch.randint(0, 2, (sets, members), device=device))
    return missing.flatten().float()


def weight_on(loss_on: str, missing: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor | None:
    """Loss weights [rows, 1, height, width] of mean 1, of all members or of the missing ones alone.

    loss_on: all, as eq. 2 of arXiv 2407.06187 is written, or missing. weight: [rows, 1, height, width], None for equal
    ones.
    """
    if loss_on == "all":
        return weight
    chosen = missing.view(-1, 1, 1, 1)
    weight = chosen if weight is None else weight * chosen
    return weight / weight.mean()
