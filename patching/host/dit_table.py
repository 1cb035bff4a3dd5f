"""The families of diffusion transformers: one row each, with what differs between their networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch

from .reference_places import Taken, nowhere, of_flux, of_krea, of_qwen

_HOST = "comfy.ldm."


@dataclass(frozen=True)
class Row:
    """One family.

    name, models: as in `Family`. classes: (module, name) of its networks, by name since older hosts lack some. stacks:
    (ComfyUI's block_type, attribute) of its lists of blocks, in call order. width: of all heads' keys together. patch:
    the side of a token in latent pixels. side: of the training pictures, in pixels. embedder: the attribute that makes
    rotations of positions, None without them. axes: those of (index, down, right) among the embedder's. halves: see
    `kernels.attention.rotated`. centered: positions count from the picture's center. step: of the index between
    pictures.
    kind: the blocks' kind, where the host sets no block_type. numbers: the host gives its blocks no numbers. crosses:
    the prompt comes by cross-attention. known: False for a host that does not tell its blocks apart. picture_last:
    nothing but padding follows the picture's tokens; otherwise the host's own references do. places: of these.
    """

    name: str
    models: str
    classes: tuple[tuple[str, str], ...]
    stacks: tuple[tuple[str, str], ...]
    width: Callable[[Any], int]
    patch: Callable[[Any], int] = lambda network: network.patch_size
    side: int = 1024
    embedder: str | None = "pe_embedder"
    halves: bool = False
    centered: bool = False
    step: Callable[[Any], float] = lambda network: 1.0
    kind: str | None = None
    numbers: bool = False
    crosses: bool = False
    known: Callable[[Any], bool] = lambda network: True
    picture_last: bool = False
    places: Callable[[Any, str | None, Sequence[int]], Taken] = nowhere

    def fits(self, network: torch.nn.Module) -> bool:
        """True for a network of this family; its subclasses in the host are other families."""
        of_host = next((c for c in type(network).__mro__ if c.__module__.startswith(_HOST)), None)
        return of_host is not None and (of_host.__module__.removeprefix(_HOST), of_host.__name__) in self.classes


ROWS = (
    Row(
        name="Flux",
        models="Flux.1, Flux.2, LongCat-Image",
        classes=(("flux.model", "Flux"),),
        stacks=(("double", "double_blocks"), ("single", "single_blocks")),
        width=lambda network: network.hidden_size,
        step=lambda network: float(getattr(network.params, "ref_index_scale", 1.0)),
        places=of_flux,
    ),
    Row(
        name="Chroma",
        models="Chroma",
        classes=(("chroma.model", "Chroma"),),
        stacks=(("double", "double_blocks"), ("single", "single_blocks")),
        width=lambda network: network.hidden_size,
    ),
    Row(
        name="Qwen-Image",
        models="Qwen-Image, Qwen-Image-Edit",
        classes=(("qwen_image.model", "QwenImageTransformer2DModel"),),
        stacks=(("double", "transformer_blocks"),),
        width=lambda network: network.inner_dim,
        centered=True,
        places=of_qwen,
    ),
    Row(
        name="Lumina2",
        models="Z-Image, Lumina 2, NewBie",
        classes=(("lumina.model", "NextDiT"),),
        stacks=(("double", "layers"),),
        width=lambda network: network.dim,
        embedder="rope_embedder",
        picture_last=True,
    ),
    Row(
        name="Krea2",
        models="Krea 2",
        classes=(("krea2.model", "SingleStreamDiT"),),
        stacks=(("single", "blocks"),),
        width=lambda network: network.blocks[0].attn.heads * network.blocks[0].attn.headdim,
        patch=lambda network: network.patch,
        places=of_krea,
    ),
    Row(
        name="SD3",
        models="SD 3, SD 3.5",
        classes=(
            ("modules.diffusionmodules.mmdit", "MMDiT"),
            ("modules.diffusionmodules.mmdit", "OpenAISignatureMMDITWrapper"),
        ),
        stacks=(("double", "joint_blocks"),),
        width=lambda network: network.hidden_size,
        embedder=None,
        kind="double",
        numbers=True,
    ),
    Row(
        name="Anima",
        models="Anima, Cosmos-Predict2 of images",
        classes=(("anima.model", "Anima"), ("cosmos.predict2", "MiniTrainDIT")),
        stacks=(("block", "blocks"),),
        width=lambda network: network.model_channels,
        patch=lambda network: network.patch_spatial,
        embedder="pos_embedder",
        halves=True,
        kind="block",
        crosses=True,
        # Hosts that give numbers to these blocks give options to their projections, too.
        known=lambda network: "transformer_options" in signature(network.blocks[0].self_attn.compute_qkv).parameters,
    ),
)


def row_of(network: torch.nn.Module) -> Row | None:
    """The row of a network; None for a network of no family here."""
    return next((row for row in ROWS if row.fits(network)), None)
