"""Scenes in sets of near-copies: what videos and multi-view renders alone teach a joint model (JeDi, arXiv 2407.06187).

Such sets have one place and nearly one pose. In table 3 of the paper the model without S3, of size 0, learns to copy.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from ...world.scene import Scene, sample_scene
from .scenes import VIEWS, subject_of_set

_SHIFT, _SCALE, _TILT = 0.02, 0.03, 3.0


def copy_of_set(index: int, seed: int) -> Scene:
    """Scene number `index`: VIEWS consecutive scenes show one subject in one place and, up to a jitter, one pose."""
    number = index // VIEWS
    first = sample_scene(Random(f"copies-{seed}-{number}"), subject_of_set(number, seed))
    rng, pose = Random(f"copies-{seed}-{index}-view"), first.pose
    return replace(
        first,
        pose=replace(
            pose,
            x=pose.x + rng.uniform(-_SHIFT, _SHIFT),
            y=pose.y + rng.uniform(-_SHIFT, _SHIFT),
            size=pose.size * (1 + rng.uniform(-_SCALE, _SCALE)),
            tilt=pose.tilt + rng.uniform(-_TILT, _TILT),
        ),
    )
