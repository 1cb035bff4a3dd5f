"""The Segment Anything network (arXiv 2304.02643) of a checkpoint, whose weights tell its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

_ENCODER = "image_encoder"
_WINDOW = 14  # side of the encoder's local attention windows, in tokens
_WIDTH = 256  # channels between encoder and decoder


@dataclass(frozen=True)
class Sizes:
    """Sizes of an image encoder: channels, transformer blocks, heads, the blocks of global attention, tokens per side
    and pixels per token."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    tokens: int
    patch: int

    @property
    def pixels(self) -> int:
        """Side of the square picture that the network reads."""
        return self.tokens * self.patch


def sizes(state: Mapping[str, torch.Tensor]) -> Sizes | None:
    """Sizes of the checkpoint's image encoder, or None where the weights are not those of Segment Anything.

    vit_b, vit_l and vit_h differ in these alone. Relative positions tell the attention: [2 * tokens - 1, head width].
    """
    try:
        _, tokens, _, width = state[f"{_ENCODER}.pos_embed"].shape
        patch = state[f"{_ENCODER}.patch_embed.proj.weight"].shape[-1]
        prefix = f"{_ENCODER}.blocks."
        depth = len({key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)})
        relative = [state[f"{prefix}{block}.attn.rel_pos_h"].shape for block in range(depth)]
        heads = width // relative[0][1]
        global_blocks = tuple(block for block, (rows, _) in enumerate(relative) if rows != 2 * _WINDOW - 1)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError, ZeroDivisionError):
        return None
    return Sizes(width=width, depth=depth, heads=heads, global_blocks=global_blocks, tokens=tokens, patch=patch)


def build(found: Sizes) -> torch.nn.Module:
    """A `segment_anything` Sam of these sizes, in evaluation mode, without trained weights. Raises ImportError."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    encoder = ImageEncoderViT(
        depth=found.depth,
        embed_dim=found.width,
        img_size=found.pixels,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType] - as its authors call it
        num_heads=found.heads,
        patch_size=found.patch,
        use_rel_pos=True,
        global_attn_indexes=found.global_blocks,
        window_size=_WINDOW,
        out_chans=_WIDTH,
    )
    prompts = PromptEncoder(
        embed_dim=_WIDTH,
        image_embedding_size=(found.tokens, found.tokens),
        input_image_size=(found.pixels, found.pixels),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        transformer=TwoWayTransformer(depth=2, embedding_dim=_WIDTH, mlp_dim=2048, num_heads=8), transformer_dim=_WIDTH
    )
    return Sam(encoder, prompts, decoder).train(False)


def loaded(found: Sizes, state: Mapping[str, torch.Tensor], most: int) -> torch.nn.Module:
    """The network of these sizes with the weights of a checkpoint.

    most: bytes of its file. Raises ValueError for weights that do not fit or take more, ImportError, and what PyTorch
    raises for sizes of no network.
    """
    with torch.device("meta"):  # without memory, since anybody may have written the sizes
        shapes = {name: value.shape for name, value in build(found).state_dict().items()}
    if {name: getattr(value, "shape", None) for name, value in state.items()} != shapes:
        raise ValueError("other tensors than those of the network")
    if sum(value.numel() * value.element_size() for value in state.values()) > most:
        raise ValueError("tensors that are larger than their file")
    model = build(found)
    model.load_state_dict(state)
    return model
