"""Base models of the comparisons, and the words that name a subject in their prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import comfy.sd

from ..demo.world.captions import PLACEHOLDER
from ..demo.world.subjects import PersonalSubject
from ..patching.tinyland import model as tinyland

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

VANILLA, LORA, TEXTUAL_INVERSION, FULL = "vanilla", "lora", "textual_inversion", "full"
CUSTOM_DIFFUSION = "custom_diffusion"
"""Keys and values of the text tuned alone, as in Custom Diffusion (arXiv 2212.04488)."""


def with_lora(model: ModelPatcher, weights: Path, subject: PersonalSubject, strength: float = 1.0) -> ModelPatcher:
    """Loads a bundled subject's LoRA into the MODEL."""
    tensors, _ = tinyland.read_weights(weights / "subjects" / f"{subject.name}.safetensors", "tinyland_subject")
    patched = comfy.sd.load_lora_for_models(model, None, tensors, strength, 0.0)[0]
    assert patched is not None
    return patched


def word(base: str, subject: PersonalSubject) -> str:
    """Word to find in the attention: the class, as in the workflows, or the embedding."""
    return f"embedding:{subject.name}" if base == TEXTUAL_INVERSION else subject.subject.name


def placeholder(base: str) -> str:
    """Placeholder before the class in a prompt of the subject; may be empty."""
    return PLACEHOLDER if base in (LORA, FULL, CUSTOM_DIFFUSION) else ""


def words(base: str, subject: PersonalSubject) -> str:
    """Words that name the subject in a prompt."""
    return f"{placeholder(base)} {word(base, subject)}".strip()
