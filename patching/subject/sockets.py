"""A SUBJECT at the inputs of the expert nodes: what it needs beside it, and what it takes the place of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..features.references import References
from ..host.notices import Notices
from ..host.prompt import SubjectPrompt
from ..pick_and_draw.palette import NODE as PALETTE
from .borrowing import members_of
from .subject import NODE, Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

SOCKET = "LIKENESS_SUBJECT"
"""Type of the links that carry a subject."""


def check_alone(types: Mapping[str, Any]) -> None:
    """Raises ValueError where a palette gets a subject and inputs that the subject has itself."""
    beside = [name for name in ("mask", "conditioning") if name in types]
    if "subject" in types and beside:
        raise ValueError(
            f"{PALETTE}: expected a subject with masks and caption of its own, got {' and '.join(beside)} beside it; "
            f"connect masks to {NODE}, and Subject Prompt to subject_prompt."
        )


def check_no_mask(subject: bool, masked: bool, node: str) -> None:
    """Raises ValueError for a mask beside a subject, which has masks of its own."""
    if subject and masked:
        raise ValueError(
            f"{node}: expected no mask beside a SUBJECT, which has masks of its own, got one; connect it to masks of "
            f"{NODE}."
        )


def check_beside(subject: bool, beside: Mapping[str, bool], node: str) -> None:
    """Raises ValueError for a subject without the inputs that it needs beside it, by their names."""
    missing = [name for name, given in beside.items() if not given]
    if subject and missing:
        raise ValueError(
            f"{node}: expected {' and '.join(beside)} beside a SUBJECT, got no {' and no '.join(missing)}; connect "
            f"{' and '.join(missing)}."
        )


def tell_unused(told: Notices, why: str, **inputs: Any) -> None:
    """Warns of connected inputs that only a subject has use for."""
    given = [name for name, value in inputs.items() if value is not None]
    if given:
        told.tell(
            f"no effect of {' and '.join(given)}, because {why}; disconnect {'it' if len(given) == 1 else 'them'}."
        )


def set_members(
    parts: Sequence[References | dict | Subject],
    model: ModelPatcher,
    vae: VAE | None,
    prompt: SubjectPrompt | None,
    *,
    node: str,
    notices: Notices,
) -> list[References | dict]:
    """References of a set, with each subject replaced by its members and their neutral caption.

    Raises ValueError for a subject without VAE and prompt.
    """
    found = any(isinstance(part, Subject) for part in parts)
    if not found:
        tell_unused(notices, "no SUBJECT is among references", vae=vae, subject_prompt=prompt)
    check_beside(found, {"vae": vae is not None, "subject_prompt": prompt is not None}, node)
    members: list[References | dict] = []
    for part in parts:
        if isinstance(part, Subject):
            assert prompt is not None
            part = members_of(part, model, vae, prompt, node=node, notices=notices)
        members.append(part)
    return members
