"""A second subject inpainted beside the first by the demo's joint model (JeDi, arXiv 2407.06187, section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..demo import judge
from ..demo.world.captions import PLACE_PHRASES, neutral_caption
from ..demo.world.subjects import SUBJECTS
from ..patching.features.pictures import references
from ..patching.features.references import NOISED
from ..patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ..patching.jedi.run import FRESH, JOINT
from ..patching.jedi.sampling import sample_set
from ..patching.tinyland import model as tinyland
from . import generate
from .grid import renders

FIRST = "nemo"
PAIRS = (("taxi", "snow"), ("racer", "grass"), ("cottage", "snow"), ("crate", "beach"), ("amanita", "snow"))
"""Second subjects, and the places of their prompts."""
STEPS, CFG, SEED, PHOTOS = 15, 4.0, 100, 3
NODE = "bench"


def identities(
    eye: judge.Judge, pairs: Sequence[tuple[str, str]], weights: Path = tinyland.WEIGHTS
) -> tuple[list[float], list[float]]:
    """Identity of each second subject in its half of the picture: with its references, and uncoupled from them."""
    model, clip, vae = tinyland.load(weights, joint=True)
    encode = generate.TextEncoder(clip)
    first = torch.from_numpy(renders(SUBJECTS[FIRST].training_scenes()[:1])).float() / 255
    side = first.shape[2]
    wide = F.pad(first.movedim(-1, 1), (0, side, 0, 0), mode="replicate").movedim(1, -1)
    samples = vae.encode(wide)
    hidden = torch.zeros(1, 1, *samples.shape[-2:])
    hidden[..., samples.shape[-1] // 2 :] = 1
    found: tuple[list[float], list[float]] = ([], [])
    for index, (name, place) in enumerate(pairs):
        word = SUBJECTS[name].subject.name
        photos = renders(SUBJECTS[name].training_scenes()[:PHOTOS])
        known = references(
            torch.from_numpy(photos).float() / 255, vae, encode([neutral_caption(word)]), NOISED, 0, node=NODE
        )
        for strength, values in zip((1.0, 0.0), found, strict=True):
            guider = joint_guider(
                model,
                prompts=[encode([f"a photo of a {word} {PLACE_PHRASES[place]}"])],
                negative=encode([""]),
                references=[known],
                captions=[],
                widgets=Widgets(CFG, JOINT, CFG, strength, AUTOMATIC, FRESH, AUTOMATIC),
                node=NODE,
            )
            made = sample_set(
                guider,
                {"samples": samples, "noise_mask": hidden},
                pictures=1,
                seeds=[SEED + index],
                steps=STEPS,
                sampler="euler",
                scheduler="normal",
                denoise=1.0,
                node=NODE,
            )
            half = generate.decode(vae, made["samples"])[:, :, -side:]
            values.append(float(judge.identity(eye.look(np.ascontiguousarray(half)), eye.look(photos))[0]))
    return found
