"""Settings of LikenessSampler's methods: the papers' where they are known, else the defaults of the expert nodes."""

from __future__ import annotations

AUTOMATIC, PALETTE, RETOUCH, JOINT = METHODS = ("automatic", "palette guidance", "retouch", "joint")
TITLES = {
    PALETTE: "palette guidance (Pick-and-Draw)",
    RETOUCH: "retouch (Layout-and-Retouch)",
    JOINT: "joint sampling (JeDi)",
}
TEMPLATE, OWN, DRAWN = LAYOUTS = ("vanilla template", "own layout", "drawn mask")

NEUTRAL_PROMPT, WHOLE_PROMPT = TARGET_PROMPTS = ("neutral", "whole")
"""Prompts of a retouched picture: a photo of the subject, as in Algorithm 1, or the whole prompt."""

TAU = 0.1
"""Part of sampling that the vanilla model draws: 5 of 50 steps in Layout-and-Retouch (arXiv 2407.09779)."""
LAMBDA = 0.2
"""Part of sampling before the reference and the mask act: 10 of 50 steps."""
APPEARANCE = (0.1, 0.7)
"""Part of sampling in which the features follow the palette."""
TEMPLATE_END = 0.3
"""End of the part of sampling in which the attention follows a template."""
STEP_SIZE = 0.05
"""Length of a step of palette guidance at likeness 1, relative to the latent."""
THRESHOLD = 0.3
"""Attention above which a place belongs to the generated subject, and to the box for Segment Anything."""


def acting_part(method: str) -> tuple[float, float]:
    """Part of sampling in which a method's look of the subject acts."""
    return {PALETTE: APPEARANCE, RETOUCH: (LAMBDA, 1.0)}.get(method, (0.0, 1.0))


def layout_end(method: str, layout: str) -> float:
    """End of the part of sampling in which a layout other than the picture's own is decided."""
    return TEMPLATE_END if method == PALETTE or layout == DRAWN else TAU
