"""Network of every joint training (JeDi, arXiv 2407.06187, section 3): its widened input, its calls, its given
members."""

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
"""Channel order of the paper: mask, noisy latent, clean latent."""
FIRST_LAYER = "input_blocks.0.0.weight"


def widened(weight: torch.Tensor) -> torch.Tensor:
    """Widens the first layer's weight [channels, 4, 3, 3] to the joint input, [channels, 9, 3, 3]; new channels start
    at 0."""
    wide = weight.new_zeros(len(weight), IN_CHANNELS, *weight.shape[2:])
    wide[:, list(noisy_first(ORDER)[:CHANNELS])] = weight
    return wide


def attention_layers(unet: UNetModel) -> tuple[Layer, ...]:
    """Layers with self-attention; the paper couples all of them."""
    return layers_of(UNET.blocks(unet))


@dataclass(frozen=True, eq=False)
class JointCall:
    """eps_theta(x_t, x_ref, m, t) (JeDi, arXiv 2407.06187, eq. 2) as a function of x_t, t and the captions of one
    step's sets.

    unet: network with nine input channels. clean: [sets * members, 4, height, width], the members of a set in a row.
    missing: [sets * members], 1 for a picture to generate. options: further `transformer_options`. vector: [sets *
    members, width], pooled captions and sizes of a network that takes them, such as SDXL's.
    """

    unet: UNetModel
    clean: torch.Tensor
    missing: torch.Tensor
    members: int
    options: Options
    vector: torch.Tensor | None = None

    def __call__(self, noisy: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Predicts noise or velocity, as the network does, and returns noisy's shape.

        noisy: [sets * members, 4, height, width]. context: [sets * members, tokens, width].
        """
        network_input = torch.cat([noisy, given_channels(self.clean, self.missing).to(noisy)], 1)
        options = UNET.change_self_attention(
            self.options, attention_layers(self.unet), Coupling("run.py train joint", self.members)
        )
        return self.unet(arranged(network_input, ORDER), timesteps, context, y=self.vector, transformer_options=options)


def draw_missing(sets: int, members: int, device: torch.device) -> torch.Tensor:
    """Draws the missing members m of JeDi (arXiv 2407.06187, eq. 2): [sets * members], 1 with probability 1/2 each.

    A set in which every member is given is drawn again, since it would leave nothing to generate. With m_i the missing
    members, P(m) is therefore uniform over the 2^members - 1 nonzero masks, while the paper draws each m_i
    independently.
    """
    missing = torch.randint(0, 2, (sets, members), device=device)
    while not (drawn := missing.any(1)).all():
        missing = torch.where(drawn[:, None], missing, torch.randint(0, 2, (sets, members), device=device))
    return missing.flatten().float()


def weight_on(loss_on: str, missing: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor | None:
    """Loss weights [rows, 1, height, width] of mean 1, of all members or only the missing ones.

    loss_on: "all", as eq. 2 of JeDi (arXiv 2407.06187) is written, or "missing". weight: [rows, 1, height, width], or
    None for equal weights.
    """
    if loss_on == "all":
        return weight
    chosen = missing.view(-1, 1, 1, 1)
    weight = chosen if weight is None else weight * chosen
    return weight / weight.mean()
