"""Sets of pictures sampled with tiny models, and the same computed by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from likeness.patching.features.references import NOISED, Reference, References
from likeness.patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from likeness.patching.jedi.sampling import sample_set
from likeness.tests.patching.tiny_models import conditioning, latent

STEPS = 2
NEGATIVE = 11
WIDGETS = Widgets(
    cfg=4.0,
    guidance="joint",
    image_cfg=4.0,
    strength=1.0,
    blocks="all",
    reference_noise="fixed",
    channel_order=AUTOMATIC,
)


class Captions(list):
    """One CONDITIONING per reference."""


def prompts(model, count=2):
    return [conditioning(model, seed=30 + i) for i in range(count)]


def reference(model, seed=20, height=8, width=8, tokens=7, **fields) -> Reference:
    return Reference(
        latent(1, height, width, seed), conditioning(model, tokens=tokens, seed=40 + seed), NOISED, seed, **fields
    )


def guider_of(model, texts=None, references=(), caption=None, node="Joint Image Sampler", **widgets):
    """A JointGuider; references: a list of Reference, or a LATENT; caption: one for all, or Captions."""
    given = [References((r,)) for r in references] if isinstance(references, (list, tuple)) else [references]
    texts = prompts(model) if texts is None else texts
    captions = [] if caption is None else caption if isinstance(caption, Captions) else [caption]
    negative, pictures = widgets.pop("negative", conditioning(model, seed=NEGATIVE)), widgets.pop("pictures", None)
    return joint_guider(
        model,
        prompts=texts,
        negative=negative,
        references=given,
        captions=captions,
        widgets=replace(WIDGETS, **widgets),
        node=node,
        pictures=pictures,
    )


def sampled(guider, latents, **schedule):
    """The pictures of `sample_set`, by default two steps of two pictures."""
    defaults = {
        "pictures": 2,
        "seeds": [1],
        "steps": 2,
        "sampler": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
        "node": "Joint Image Sampler",
    }
    return sample_set(guider, latents, **{**defaults, **schedule})["samples"]


def run(
    model, texts=None, references=(), seeds=(3,), batch=1, steps=STEPS, sampler="euler", height=8, width=8, **options
):
    """The pictures that JointImageSampler makes, [pictures, 4, height, width]."""
    texts = prompts(model) if texts is None else texts
    guider = guider_of(model, texts, references, **options)
    empty = {"samples": torch.zeros(batch, 4, height, width)}
    return sampled(guider, empty, pictures=len(texts), seeds=list(seeds), steps=steps, sampler=sampler)


def alone(model, text, seed, cfg=4.0, sampler="euler", steps=STEPS):
    """One picture that KSampler makes."""
    empty = torch.zeros(1, 4, 8, 8)
    return comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(empty, seed),
        steps,
        cfg,
        sampler,
        "normal",
        text,
        conditioning(model, seed=NEGATIVE),
        empty,
        disable_pbar=True,
        seed=seed,
    )


def together(q, k, v, extra):
    """Attention of every row over the tokens of all rows, by einsum, head by head."""
    heads = extra["n_heads"]
    split = [t.unflatten(-1, (heads, -1)) for t in (q, k, v)]
    weights = torch.einsum("inhd,jmhd->hinjm", split[0], split[1]) / split[0].shape[-1] ** 0.5
    shares = weights.flatten(-2).softmax(-1).unflatten(-1, weights.shape[-2:])
    return torch.einsum("hinjm,jmhd->inhd", shares, split[2]).flatten(2)


def everywhere(act) -> dict:
    names = [("input", n) for n in range(12)] + [("middle", 0), ("middle", 1)] + [("output", n) for n in range(12)]
    return {"patches_replace": {"attn1": dict.fromkeys(names, act)}}


def by_hand(model, combine, references, noises, seeds=(3, 4), steps=STEPS, channels=None):
    """Euler's method over `combine(evaluate)`; evaluate(conditional, in_set, slots) is one evaluation of the network.

    slots: replacements of self-attention by block.

    channels(missing, clean): further input channels, for `missing` pictures and the references' latents `clean`.
    """
    from likeness.tests.patching.layout_and_retouch.retouch_runs import levels

    # All clones share weights, which may still hold another test's LoRA.
    comfy.model_management.load_models_gpu([model])
    base = model.model
    texts, negative = prompts(model, len(seeds)), conditioning(model, seed=NEGATIVE)
    sigmas = levels(model, steps)
    empty = torch.zeros(1, 4, 8, 8)
    noise = torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds])
    clean = (
        torch.cat([base.process_latent_in(r.latent["samples"]) for r in references])
        if references
        else torch.zeros(0, 4, 8, 8)
    )
    highest = float(base.model_sampling.sigma_max)
    x = base.model_sampling.noise_scaling(
        torch.tensor(sigmas[0]), noise, torch.zeros_like(noise), sigmas[0] >= highest * (1 - 1e-5)
    )
    with torch.no_grad():
        for sigma, following in itertools.pairwise(sigmas):

            def evaluate(conditional, in_set, x=x, sigma=sigma, slots=None):
                rows = torch.cat([x, clean + sigma * noises]) if in_set else x
                given = [*texts, *(r.conditioning for r in references)] if in_set else texts
                entries = given if conditional else [negative] * len(rows)
                text = torch.cat([e[0][0] for e in entries])
                pooled = torch.cat([e[0][1]["pooled_output"] for e in entries])
                adm = base.encode_adm(pooled_output=pooled, device=x.device, noise=rows, width=64, height=64)
                extra = {} if adm is None else {"y": adm}
                if channels is not None:
                    extra["c_concat"] = channels(len(x), clean if in_set else clean[:0])
                slots = (everywhere(together)["patches_replace"]["attn1"] if in_set else {}) | (slots or {})
                options = {"patches_replace": {"attn1": slots}}
                return base.apply_model(
                    rows, rows.new_full([len(rows)], sigma), c_crossattn=text, transformer_options=options, **extra
                )[: len(x)]

            denoised = combine(evaluate)
            x = x + (x - denoised) / sigma * (following - sigma)
    return base.process_latent_out(x)
