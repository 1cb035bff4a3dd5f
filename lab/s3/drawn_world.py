"""Stages that the demo's own model draws, so that the paper's recipe can be tried whole without a download.

A collage of SDXL has one subject because its panels see each other in self-attention. The demo's model was never
trained on collages, so its panels are four pictures whose self-attention is coupled, of weights that never saw a set.
"""

from __future__ import annotations

import threading
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import torch
from comfy.samplers import CFGGuider
from PIL import Image

from ...benchmarks import generate
from ...benchmarks.timing import silence
from ...demo.world.captions import PLACE_PHRASES, prompt
from ...demo.world.scene import CLASSES, COLORS, PATTERNS, PLACES, SIZE
from ...patching.evaluation import instances
from ...patching.evaluation.judge import JUDGE, JudgeEncoder
from ...patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from ...patching.jedi.run import FRESH, JOINT
from ...patching.tinyland import model as tinyland
from . import plan
from .plan import TINYLAND_MODEL, Plan, Row
from .stages import Cut, Embeds, Stages, scene_caption, unchanged

PANELS, BLOCKS = 4, "decoder"
THRESHOLD = 0.5
"""Cosine of the demo's judge; no published network has this scale."""
PER_SHARD = 100
_NODE = "s3"


def facts(sets: int, seed: int = 0) -> dict[str, Any]:
    """Facts of a plan in which the demo's model draws collages and backgrounds, and its judge sees."""
    own = {"by": TINYLAND_MODEL}
    return {
        "format": plan.FORMAT,
        "sets": sets,
        "per_shard": PER_SHARD,
        "seed": seed,
        "size": SIZE,
        "collage_size": 2 * SIZE,
        "set_sizes": [2, 3, 4],
        "format_of_pictures": "png",
        "prompts_per_object": len(COLORS) * len(PATTERNS),
        "objects": list(CLASSES),
        "stages": {
            "prompts": own,
            "collage": own,
            "segment": own,
            "filter": {"by": "network", "network": JUDGE, "threshold": THRESHOLD},
            "inpaint": own,
            "restyle": {"by": "none", "share": 0.0, "styles": []},
            "caption": {"by": "scene"},
        },
        "models": {"collage": "the demo's denoiser", "segment": "the demo's judge", "inpaint": "the demo's denoiser"},
    }


class DrawnWorld:
    """Draws collages and backgrounds with the demo's model, and finds subjects with its judge."""

    def __init__(self, plan: Plan):
        self.plan, self._settings, self._one = plan, generate.Settings(), threading.Lock()

    @cached_property
    def _models(self) -> tuple[Any, generate.TextEncoder, Any]:
        model, clip, vae = tinyland.load(tinyland.WEIGHTS, None, generate.DTYPE)
        return model, generate.TextEncoder(clip), vae

    @cached_property
    def _judge(self) -> JudgeEncoder:
        return JudgeEncoder()

    def collage(self, row: Row, text: str) -> Image.Image:
        """Four pictures of one text, with coupled self-attention as in training-free joint sampling."""
        with self._one, silence(), torch.inference_mode():
            model, encode, vae = self._models
            cfg = self._settings.cfg
            guider = joint_guider(
                model,
                prompts=[encode([text])],
                negative=encode([""]),
                references=[],
                captions=[],
                widgets=Widgets(cfg, JOINT, cfg, 1.0, BLOCKS, FRESH, AUTOMATIC),
                node=_NODE,
                pictures=PANELS,
            )
            rng = self.plan.rng(row, "collage/seed")
            seeds = [rng.getrandbits(32) for _ in range(PANELS)]
            panels = generate.decode(vae, generate.latents(guider, seeds, self._settings))
        top, bottom = (np.concatenate([*half], 1) for half in (panels[:2], panels[2:]))
        return Image.fromarray(np.concatenate([top, bottom]))

    def segment(self, row: Row, collage: Image.Image) -> list[Cut]:
        """Largest part of the judge's mask in each panel."""
        pixels = np.asarray(collage.convert("RGB"))
        halves = slice(0, SIZE), slice(SIZE, 2 * SIZE)
        cuts = []
        for panel in (pixels[rows, columns] for rows in halves for columns in halves):
            mask = self._judge.mask(Image.fromarray(panel)).astype(np.float32)
            (one,) = instances.find(mask[None])
            if mask.any():
                cuts.append(Cut(Image.fromarray(one.cut(panel)), one.dropped))
        return cuts

    def background(self, row: Row, number: int, subject: Image.Image, scene: str) -> Image.Image:
        """Picture of a scene around a subject: its latents are drawn again outside of the subject (inpainting)."""
        gray = Image.new("RGB", subject.size, (128, 128, 128))
        gray.paste(subject.convert("RGB"), (0, 0), subject.getchannel("A"))
        alpha = np.asarray(subject.getchannel("A"), np.float32) / 255
        with self._one, silence(), torch.inference_mode():
            model, encode, vae = self._models
            known = vae.encode(torch.from_numpy(np.array(gray)).float()[None] / 255)
            mask = 1 - torch.from_numpy(alpha)[None, None]
            guider = CFGGuider(model)
            guider.set_conds(encode([scene]), encode([""]))
            guider.set_cfg(self._settings.cfg)
            seed = self.plan.rng(row, f"inpaint{number}/seed").getrandbits(32)
            drawn = generate.latents(guider, [seed], self._settings, known=known, mask=mask)
            return Image.fromarray(generate.decode(vae, drawn)[0])


def stages(plan: Plan, embed: Embeds | None) -> Stages:
    """All stages."""
    world = DrawnWorld(plan)
    return Stages(world.collage, world.segment, embed, world.background, unchanged, scene_caption)


class WorldWriter:
    """Language model of the demo's words: every color and pattern of a class, and every place."""

    def answer(self, text: str, seed: int, picture: bytes | None = None) -> str:
        thing = text.split("each with the words '")[1].split("'")[0]
        if "scenes" in text:
            return "\n".join(f"a photo of a {thing} {phrase}" for phrase in PLACE_PHRASES.values())
        rng = Random(f"{seed}/{thing}")
        return "\n".join(prompt(thing, rng.choice(PLACES), color, pattern) for color in COLORS for pattern in PATTERNS)
