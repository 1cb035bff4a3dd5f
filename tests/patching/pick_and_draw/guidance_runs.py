"""Palettes, templates and guided runs of tiny models, with the host's real tokenizers."""

from __future__ import annotations

import functools
import logging
import zlib
from dataclasses import replace

import comfy.sample
import comfy.samplers
import comfy.sd1_clip
import comfy.sdxl_clip
import torch
from likeness.patching.features.references import NOISED
from likeness.patching.host.family import SELF_INPUT
from likeness.patching.host.window import ALWAYS
from likeness.patching.pick_and_draw.build import guide
from likeness.patching.pick_and_draw.build_palette import Made, Picture, build_palette
from likeness.patching.pick_and_draw.build_template import Sampling, record_template
from likeness.patching.pick_and_draw.settings import Widgets
from likeness.patching.pick_and_draw.template import Template
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model

SEED = 61
"""Seed of models that the other folders do not share: their weights are made in inference mode."""
SIDE = 16
STEPS = 2
SCHEDULE = (3.0, 1.75, 1.0)
PROMPT, WORD = "a photo of a red cat on a table", "red cat"
CAPTION, SUBJECT = "a photo of a cat", "cat"
WIDGETS = Widgets(
    text=PROMPT,
    word=WORD,
    appearance_weight=1.0,
    appearance_start=0.0,
    appearance_end=1.0,
    layout_weight=1.0,
    layout_start=0.0,
    layout_end=1.0,
    layout_blocks="all",
    direction="gen_to_ref",
    step_size=0.05,
    step="relative",
    iterations=1,
    every=1,
    threshold=0.3,
)


class Clip:
    """A real tokenizer, and random text features that differ from text to text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def tokenize(self, text, return_word_ids=False):
        return self.tokenizer.tokenize_with_weights(text, return_word_ids)

    def encode_from_tokens_scheduled(self, tokens):
        chunks = next(iter(tokens.values()))
        seed = zlib.crc32(str([token[0] for chunk in chunks for token in chunk]).encode())
        return conditioning(None, tokens=sum(map(len, chunks)), seed=seed)  # pyright: ignore[reportArgumentType]


@functools.cache
def clip_of(family: str = "sd1") -> Clip:
    return Clip(comfy.sdxl_clip.SDXLTokenizer() if family == "sdxl" else comfy.sd1_clip.SD1Tokenizer())


def encoded(text: str, family: str = "sd1") -> list:
    clip = clip_of(family)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def model_of(family: str = "sd1", dtype: torch.dtype = torch.float32):
    return tiny_model(family, dtype, seed=SEED)


def square(side: int = SIDE, left: int = 32, right: int = 96) -> torch.Tensor:
    """A MASK with the subject in the middle, along borders of tokens."""
    mask = torch.zeros(1, 8 * side, 8 * side)
    mask[:, left:right, left:right] = 1
    return mask


def picture(seed: int = 20, **changes) -> Picture:
    """A LATENT with the subject in the middle."""
    given = {"latent": latent(1, SIDE, SIDE, seed), "mask": square(), "text": CAPTION, "word": SUBJECT, **changes}
    return Picture(**{"threshold": 0.3, **given})


def made(
    model,
    family="sd1",
    *,
    seed=20,
    source=NOISED,
    weight=1.0,
    blocks="paper",
    window=ALWAYS,
    sigmas=None,
    more=None,
    features=SELF_INPUT,
    **changes,
) -> Made:
    return build_palette(
        model,
        clip_of(family),
        picture(seed, **changes),
        source=source,
        seed=5,
        weight=weight,
        blocks=blocks,
        window=window,
        sigmas=sigmas,
        more=more,
        features=features,
    )


def palette(model, family="sd1", **settings):
    return made(model, family, **settings).palette


def template(
    model,
    family="sd1",
    *,
    batch=1,
    blocks="all",
    window=ALWAYS,
    steps=STEPS,
    seed=9,
    text=PROMPT,
    word="cat",
    picture=True,
    **sampling,
) -> Template:
    chosen = Sampling(
        **{
            "seed": seed,
            "steps": steps,
            "cfg": 4.0,
            "sampler": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            **sampling,
        }
    )
    empty = {"samples": torch.zeros(batch, 4, SIDE, SIDE)}
    return record_template(
        model,
        clip_of(family),
        text=text,
        word=word,
        negative=encoded("", family),
        latent=empty,
        sampling=chosen,
        blocks=blocks,
        window=window,
        picture=picture,
    )[0]


@functools.cache
def recorded(family: str = "sd1") -> Template:
    """A template at all noise levels, for tests that only need one."""
    return template(model_of(family), family)


def at_levels(recorded: Template, levels) -> Template:
    """The same maps as those of other noise levels."""
    return Template(
        recorded.family, {la: dict(zip(levels, maps.values(), strict=False)) for la, maps in recorded.maps.items()}
    )


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def guided(model, palette=None, template=None, family="sd1", notices=None, **changes):
    """The guided MODEL and its LossLog."""
    return guide(model, clip_of(family), palette, template, replace(WIDGETS, **changes), notices=notices)


def noise_of(*seeds: int, side: int = SIDE) -> torch.Tensor:
    return torch.cat([torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(s)) for s in seeds])


def run(
    model,
    family="sd1",
    *,
    noise=None,
    steps=STEPS,
    cfg=4.0,
    sampler="euler",
    scheduler="normal",
    denoise=1.0,
    positive=None,
    callback=None,
) -> torch.Tensor:
    """Samples as KSampler does."""
    noise = noise_of(3) if noise is None else noise
    positive = encoded(PROMPT, family) if positive is None else positive
    return comfy.sample.sample(
        model,
        noise,
        steps=steps,
        cfg=cfg,
        sampler_name=sampler,
        scheduler=scheduler,
        positive=positive,
        negative=encoded("", family),
        latent_image=torch.zeros_like(noise),
        denoise=denoise,
        callback=callback,
        disable_pbar=True,
        seed=0,
    )


def sampled(
    model,
    family="sd1",
    *,
    noise=None,
    schedule=SCHEDULE,
    cfg=4.0,
    sampler="euler",
    positive=None,
    guider=comfy.samplers.CFGGuider,
    apart=False,
) -> torch.Tensor:
    """Samples as SamplerCustomAdvanced does; `apart` makes the host run cond and uncond in two calls."""
    noise = noise_of(3) if noise is None else noise
    if apart:
        model = model.clone()
        model.get_free_memory = lambda device: 0  # pyright: ignore[reportAttributeAccessIssue]
    guider = guider(model)
    guider.set_conds(encoded(PROMPT, family) if positive is None else positive, encoded("", family))
    guider.set_cfg(cfg)
    sigmas = torch.tensor(schedule)
    return guider.sample(
        noise, torch.zeros_like(noise), comfy.samplers.sampler_object(sampler), sigmas, disable_pbar=True, seed=0
    )


def levels(model, steps: int = STEPS, scheduler: str = "normal") -> list[float]:
    return comfy.samplers.KSampler(model, steps, model.load_device, "euler", scheduler).sigmas.tolist()


def warnings_of(caplog) -> list[str]:
    """The node's warnings in the log."""
    return [
        r.getMessage()
        for r in caplog.records
        if r.levelno == logging.WARNING and r.getMessage().startswith("Subject Guidance")
    ]


class Calls:
    """Counts a MODEL's calls of its network, on a clone."""

    likeness_identity = None  # it only watches

    def __init__(self, model):
        self.rows: list[int] = []
        self.model = model.clone()
        self.model.set_model_unet_function_wrapper(self._count)

    def _count(self, apply, given):
        self.rows.append(len(given["input"]))
        return apply(given["input"], given["timestep"], **given["c"])
