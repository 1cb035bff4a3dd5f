"""Tests of a model's blocks on a picture: where attention follows positions, and where it follows content."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ...kernels.layer_probe import exchanged, leaning, relative_change, sides
from ..host.attach import attach, bare
from ..host.blocks import Block, Layer, check_names, parse, text_of
from ..host.checks import image_latent, single
from ..host.families import discover, family_of, training_resolution
from ..host.family import Attention, Family, SelfAttentionChange
from ..host.joint_attention import JointAttention
from ..host.notices import Notices
from ..host.passes import Denoise, noise_levels, run_pass
from ..host.run import Call, Forward
from ..host.tokens import Tokens
from ..host.window import ALWAYS, Window
from .host_memory import sent
from .sources import noised_source

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NODE = "Layer Probe"
_ROWS = 3
"""Rows of a call: the picture for each of both tests, and the picture moved sideways."""
_ROUNDING = 1e-5
"""Largest change that a block without effect has."""


@dataclass(frozen=True)
class Probed:
    """Blocks with the change of the denoised picture in both tests, as fractions of the picture's spread.

    of_position, of_content: one per block. lean: see `kernels.layer_probe.leaning`. position, content: the blocks that
    lean most to each side.
    """

    blocks: tuple[Block, ...]
    of_position: tuple[float, ...]
    of_content: tuple[float, ...]
    lean: tuple[float, ...]
    position: tuple[Block, ...]
    content: tuple[Block, ...]

    @property
    def content_text(self) -> str:
        """The blocks that lean most to content, for the input `blocks` of other nodes."""
        return text_of(self.content, self.blocks)

    @property
    def position_text(self) -> str:
        """The blocks that lean most to position, for the input `blocks` of other nodes."""
        return text_of(self.position, self.blocks)


def probe(
    model: ModelPatcher,
    conditioning: list,
    latent: dict,
    *,
    blocks: str,
    share: float,
    window: Window,
    levels: int,
    seed: int,
    notices: Notices,
    node: str = NODE,
) -> Probed:
    """Tests each of `blocks` by itself on the pictures of a LATENT; see `kernels.layer_probe.exchanged`.

    share: see `kernels.layer_probe.sides`. levels: number of noise levels, evenly spread over the window. Each
    picture and level costs one call of three rows per block, and one more. Raises ValueError for unknown blocks, an
    empty LATENT, a picture too narrow to be moved, and blocks without effect. The same holds for a prompt with more
    than text, since areas and a ControlNet would not move with the picture.
    """
    check_names(blocks, node, needed=True)
    chosen, family = parse(blocks, discover(model, node), node), family_of(model, node)
    single(conditioning, node)
    samples = image_latent(model, latent, node)
    shift = _half(samples.shape[-1], training_resolution(model, node).multiple, node)
    sigmas = noise_levels(window, levels, model.get_model_object("model_sampling"), node)
    source, turn = noised_source(model, latent, seed, node), _Turn()
    each = len(sigmas) * (len(chosen) + 1)
    notices.inform(
        f"{len(samples) * each} model calls of {_ROWS} pictures each: {len(samples)} x {len(sigmas)} x "
        f"({len(chosen)} + 1), for pictures, noise levels and blocks."
    )
    tested = attach(bare(model), _TestedBlock(node, family, turn))
    found: list[torch.Tensor] = []
    for picture in range(len(samples)):

        def observe(denoise: Denoise, clean: torch.Tensor, picture: int = picture) -> None:
            for sigma in sigmas:
                noisy = sent(source.at(sigma)[picture : picture + 1], clean)
                x = torch.cat([noisy, noisy, noisy.roll(shift, -1)])
                turn.block = None
                plain = denoise(x, sigma)
                changes: list[torch.Tensor] = []
                for turn.block in chosen:
                    changes.append(relative_change(plain[:2], denoise(x, sigma)[:2]))
                found.append(torch.stack(changes))

        rows = samples[picture : picture + 1].repeat(_ROWS, *(1,) * (samples.ndim - 1))
        run_pass(tested, conditioning, rows, [s for s in sigmas for _ in range(each // len(sigmas))], observe)
    return _judged(chosen, torch.stack(found).mean(0).cpu(), share, node)


def _judged(blocks: tuple[Block, ...], changes: torch.Tensor, share: float, node: str) -> Probed:
    """The result of all tests. changes: [blocks, 2], of position and of content."""
    if not bool(changes.isfinite().all()):
        raise ValueError(
            f"{node}: expected finite pictures from the model, got others; run the model in a wider number format, or "
            "connect another checkpoint."
        )
    if float(changes.max()) <= _ROUNDING:
        raise ValueError(
            f"{node}: expected blocks whose attention changes the picture, got none; write all into blocks, or connect "
            "another checkpoint."
        )
    of_position, of_content = changes.unbind(1)
    lean = leaning(of_position, of_content)
    position, content = sides(lean, share)
    return Probed(
        blocks,
        tuple(of_position.tolist()),
        tuple(of_content.tolist()),
        tuple(lean.tolist()),
        position=tuple(blocks[i] for i in position),
        content=tuple(blocks[i] for i in content),
    )


def _half(width: int, multiple: int, node: str) -> int:
    """Half a width in whole tokens of the coarsest layer. Raises ValueError for a width of less than two of them."""
    shift = width // (2 * multiple) * multiple
    if not shift:
        raise ValueError(
            f"{node}: expected a latent at least {2 * multiple} wide, to move it by half its width, got {width}; "
            "connect a larger picture."
        )
    return shift


@dataclass(eq=False)
class _Turn:
    """The block that is tested now, None for a plain call. reached: its layers that a call has reached."""

    block: Block | None = None
    reached: set[Layer] = field(default_factory=set)


@dataclass(frozen=True, eq=False)
class _TestedBlock:
    """A patch that lets the block of a turn borrow from the moved picture."""

    node: str
    family: Family
    turn: _Turn
    window: Window = ALWAYS

    def __call__(self, call: Call, forward: Forward) -> torch.Tensor:
        block, reached = self.turn.block, self.turn.reached
        if block is None:
            return forward(call)
        reached.clear()
        exchange = _Exchange(self.node, len(call.rows), reached)
        options = self.family.change_self_attention(call.options, block.layers, exchange)
        made = forward(replace(call, options=options))
        if reached != set(block.layers):
            raise ValueError(
                f"{self.node}: expected the model to reach {block.name}, got a model call without it; remove the node "
                "that skips or replaces this block from model, or change blocks on this node."
            )
        return made


@dataclass(frozen=True, eq=False)
class _Exchange(SelfAttentionChange):
    """Self-attention with the keys and values of `kernels.layer_probe.exchanged`. rows: of the whole call."""

    node: str
    rows: int
    reached: set[Layer]

    @property
    def attends(self) -> bool:
        return True

    def attend(
        self, layer: Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attention: Attention, tokens: Tokens
    ) -> torch.Tensor:
        self.reached.add(layer)
        if len(k) != self.rows or self.rows != _ROWS:
            raise ValueError(
                f"{self.node}: expected {_ROWS} pictures in attention, got {len(k)}; remove the node that divides "
                "attention (such as HyperTile) or rearranges model calls from model."
            )
        if not isinstance(attention, JointAttention):
            return attention(q, *exchanged(k, v, k.shape[1]))
        picture = tokens.picture
        made = attention.of_picture(q[:, :picture], *exchanged(k, v, picture))
        return attention.completed(made, q, k, v)
