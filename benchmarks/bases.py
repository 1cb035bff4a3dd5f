"""The models that the comparisons start from, and what names a subject in their prompts."""

from __future__ import annotations

from pathlib import Path

import comfy.sd

from ..demo.world.captions import PLACEHOLDER
from ..demo.world.subjects import PersonalSubject
from ..patching.tinyland import model as tinyland

VANILLA, LORA, TEXTUAL_INVERSION, FULL = "vanilla", "lora", "textual_inversion", "full"


def with_lora(model, weights: Path, subject: PersonalSubject, strength: float = 1.0):
    """The MODEL with a bundled subject's LoRA."""
    tensors, _ = tinyland.read_weights(weights / "subjects" / f"{subject.name}.safetensors", "tinyland_subject")
    return comfy.sd.load_lora_for_models(model, None, tensors, strength, 0.0)[0]


def word(base: str, subject: PersonalSubject) -> str:
    """What is looked for in the attention: the class, as in the workflows, or the embedding."""
    return f"embedding:{subject.name}" if base == TEXTUAL_INVERSION else subject.subject.name


def placeholder(base: str) -> str:
    """What stands before the class in a prompt of the subject; empty where nothing does."""
    return PLACEHOLDER if base in (LORA, FULL) else ""


def words(base: str, subject: PersonalSubject) -> str:
    """What names the subject in a prompt."""
    return f"{placeholder(base)} {word(base, subject)}".strip()
