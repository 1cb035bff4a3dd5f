"""Core nodes around ours: models and their patches, prompts, latents, and ways to sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .builder import BRACED, TEXTS, Builder
from .prompts import Link

DEMO, UNETS, JOINT, TRANSFORMER = "demo", ("sd1", "sd2", "sdxl"), "joint file", "demo transformer"
"""The demo model; U-Nets of random weights, as are the transformers; a joint checkpoint without a text encoder; the
demo's own transformer."""
AUTOENCODERS = {"flux2": "packed"} | dict.fromkeys(("qwen", "krea2", "anima"), "video")
"""FuzzVAE's format for a transformer, where it is not that of images."""
PATCHES: dict[str, tuple[dict[str, Any], ...]] = {
    "FreeU_V2": ({},),
    "HyperTile": ({"tile_size": 128, "swap_size": 2, "max_depth": 0, "scale_depth": False},),
    "TomePatchModel": ({"ratio": 0.3},),
    "PatchModelAddDownscale": ({"block_number": 1, "start_percent": 0.0, "end_percent": 0.6},),
    "PerturbedAttentionGuidance": ({},),
    "SelfAttentionGuidance": ({},),
    "RescaleCFG": ({},),
    "ModelSamplingDiscrete": ({"sampling": "v_prediction"}, {"sampling": "x0"}, {"zsnr": True}, {"sampling": "lcm"}),
    "ModelSamplingSD3": ({},),
    "ModelSamplingAuraFlow": ({},),
    "ModelSamplingFlux": ({"width": 64, "height": 64},),
    "ContextWindowsManual": ({"context_length": 1, "context_overlap": 0}, {"context_length": 2, "context_overlap": 1}),
    "DifferentialDiffusion": ({},),
    "CFGZeroStar": ({},),
    "CFGNorm": ({},),
    "NAGuidance": ({},),
    "TCFG": ({},),
    "UNetSelfAttentionMultiply": ({"q": 1.2, "k": 1.0, "v": 1.0, "out": 1.0},),
    "UNetCrossAttentionMultiply": ({"q": 1.0, "k": 1.0, "v": 1.2, "out": 1.0},),
    "ModelComputeDtype": ({"dtype": "bf16"},),
    "ModelSamplingContinuousEDM": ({},),
    "Mahiro": ({},),
    "RenormCFG": ({},),
    "FreSca": ({},),
    "Epsilon Scaling": ({},),
    "TemporalScoreRescaling": ({},),
    "EasyCache": ({"start_percent": 0.0, "end_percent": 1.0},),
    "LazyCache": ({"start_percent": 0.0, "end_percent": 1.0},),
    "LoraLoaderModelOnly": ({"lora_name": "nemo.safetensors", "strength_model": 0.7},),
    "LoraLoaderBypassModelOnly": ({"lora_name": "nemo.safetensors", "strength_model": 0.7},),
}
OF_DEMO = ("LoraLoaderModelOnly", "LoraLoaderBypassModelOnly")
ADAPTIVE = "dpm_adaptive"
"""Takes hundreds of steps or more where weights are random."""
SIZES = ((64, 64), (128, 128), (64, 96), (72, 64), (128, 64), (200, 136))


@dataclass
class Scene:
    """Shared parts of a workflow."""

    family: str
    vanilla: Link
    model: Link
    clip: Link
    vae: Link
    text: str
    word: str
    width: int
    height: int
    batch: int
    channels: int = 4
    patched: list[str] = field(default_factory=list)
    """Nodes of core's patches in the chain of the model."""


def scene(b: Builder, family: str) -> Scene:
    """Draws the model, the prompt and the size, and the values that all nodes share."""
    b.common |= {"steps": b.one_of(2, 2, 2, 3, 3, 4, 1), "cfg": b.one_of(4.0, 1.0, 7.5), "seed": b.number(0, 3)}
    widgets = b.schemas["KSampler"]["input"]["required"]
    samplers = [name for name in widgets["sampler_name"][0] if family == DEMO or name != ADAPTIVE]
    sampler = b.one_of("euler", *samplers) if b.maybe() else "euler"
    scheduler = b.one_of("normal", *widgets["scheduler"][0]) if b.maybe() else "normal"
    b.common |= {"sampler_name": sampler, "sampler": sampler, "scheduler": scheduler, "noise_levels": 2}
    b.common["noise_seed"] = b.common["seed"]
    # Tiny models have the training resolution of their family, at which every run would take minutes.
    own, fitted = "own size", "training resolution"
    b.common |= {"size": b.one_of(own, fitted) if family == DEMO else own, "inversion_steps": b.one_of(2, 3, 4)}
    width, height = b.one_of(*SIZES) if b.one_of(False, False, True) else SIZES[0]
    demo = b.add("LikenessDemoModel")
    clip, vae = [demo[0], 1], [demo[0], 2]
    channels = 4
    if family == DEMO:
        vanilla = demo
        model = b.add("LikenessDemoSubject", model=demo, strength=0.8, scene="", subject="nemo")
    elif family == TRANSFORMER:
        vanilla = b.add("LikenessDemoTransformer")
        model = b.add("LikenessDemoSubject", model=vanilla, strength=0.8, scene="", subject="nemo")
    elif family == JOINT:
        vanilla = model = b.add("LikenessLoadJointCheckpoint")
    else:
        channels = 9 if family in UNETS and b.rarely() else 4
        if family not in UNETS:
            vae = b.add("FuzzVAE", format=AUTOENCODERS.get(family, "image"))
        vanilla = b.add("FuzzModel", family=family, seed=0, channels=channels)
        model = b.add("FuzzModel", family=family, seed=1, channels=channels)
    word = "fish"
    return Scene(family, vanilla, model, clip, vae, TEXTS[0], word, width, height, b.one_of(1, 1, 2, 3), channels)


def patched(b: Builder, s: Scene, model: Link, most: int = 2) -> Link:
    """The model behind up to `most` of core's patches."""
    kinds = [kind for kind in PATCHES if kind in b.schemas and (s.family == DEMO or kind not in OF_DEMO)]
    for _ in range(b.one_of(*range(most + 1))):
        kind = b.one_of(*kinds)
        model = b.add(kind, model=model, **b.one_of(*PATCHES[kind]))
        s.patched.append(model[0])
    return model


def encoded(b: Builder, s: Scene, text: str | None = None) -> Link:
    if s.family == JOINT:
        return b.add("FuzzText", text=s.text if text is None else text)
    if text is None and b.one_of(False, False, True):
        return b.add("LikenessSubjectPrompt", clip=s.clip, text=BRACED, token="sks fish")
    return b.add("CLIPTextEncode", text=s.text if text is None else text, clip=s.clip)


def positive(b: Builder, s: Scene) -> Link:
    """The scene's prompt, alone or with another one in one of core's ways."""
    first = encoded(b, s)
    kind = (
        b.one_of("plain", "combine", "concat", "average", "area", "mask", "range", "zero", "hooks")
        if b.maybe()
        else "plain"
    )
    if kind == "plain":
        return first
    second = encoded(b, s, TEXTS[2])
    if kind == "combine":
        return b.add("ConditioningCombine", conditioning_1=first, conditioning_2=second)
    if kind == "concat":
        return b.add("ConditioningConcat", conditioning_to=first, conditioning_from=second)
    if kind == "average":
        mixed = {"conditioning_to": first, "conditioning_from": second, "conditioning_to_strength": 0.6}
        return b.add("ConditioningAverage", **mixed)
    if kind == "area":
        area = b.add("ConditioningSetAreaPercentage", conditioning=second, width=0.5, height=1.0, x=0.0, y=0.0)
        return b.add("ConditioningCombine", conditioning_1=first, conditioning_2=area)
    if kind == "mask":
        mask = b.add("SolidMask", value=1.0, width=s.width, height=s.height)
        masked = b.add("ConditioningSetMask", conditioning=second, mask=mask, strength=1.0, set_cond_area="default")
        return b.add("ConditioningCombine", conditioning_1=first, conditioning_2=masked)
    if kind == "range":
        early = b.add("ConditioningSetTimestepRange", conditioning=first, start=0.0, end=0.5)
        late = b.add("ConditioningSetTimestepRange", conditioning=second, start=0.5, end=1.0)
        return b.add("ConditioningCombine", conditioning_1=early, conditioning_2=late)
    if kind == "hooks" and s.family == DEMO:
        hooks = b.add("CreateHookLora", lora_name="nemo.safetensors", strength_model=0.7, strength_clip=0.0)
        return b.add("ConditioningSetProperties", cond_NEW=first, hooks=hooks)
    return b.add("ConditioningZeroOut", conditioning=first)


def negative(b: Builder, s: Scene) -> Link:
    return encoded(b, s, b.one_of("", "a car"))


def picture(b: Builder, s: Scene) -> Link:
    """Pictures of a subject, of the target's size or another one."""
    if s.family == DEMO and b.maybe():
        subject = b.add("LikenessDemoSubject", model=s.vanilla, strength=0.8, scene="", subject="nemo")
        return b.add("ImageFromBatch", image=[subject[0], 1], batch_index=0, length=b.one_of(1, 2))
    width, height = b.one_of(*SIZES, (60, 45)) if b.rarely() else (s.width, s.height)
    return b.add("FuzzImage", width=width, height=height, count=b.one_of(1, 2), seed=5)


def latent(b: Builder, s: Scene) -> Link:
    """An empty latent, or a picture's, with or without a mask for its noise."""
    size = {"width": s.width, "height": s.height}
    if not b.rarely():
        return b.add("EmptyLatentImage", **size, batch_size=s.batch)
    made = b.add("VAEEncode", pixels=b.add("FuzzImage", **size, count=s.batch, seed=7), vae=s.vae)
    if b.maybe():
        mask = b.add("MaskToImage", mask=b.add("SolidMask", value=1.0, width=s.width, height=s.height))
        made = b.add("SetLatentNoiseMask", samples=made, mask=b.add("ImageToMask", image=mask, channel="red"))
    return made


def sampled(b: Builder, s: Scene, model: Link, texts: tuple[Link, Link], start: Link) -> Link:
    """Samples with one of core's samplers and guiders."""
    if s.channels == 9:
        mask = b.add("SolidMask", value=1.0, width=s.width, height=s.height)
        pixels = b.add("FuzzImage", width=s.width, height=s.height, count=1, seed=8)
        made = b.add(
            "InpaintModelConditioning", positive=texts[0], negative=texts[1], vae=s.vae, pixels=pixels, mask=mask
        )
        texts = (made, [made[0], 1])
    asked = {"model": model, "positive": texts[0], "negative": texts[1], "latent_image": start}
    way = b.one_of("KSampler", "KSamplerAdvanced", "two parts", "guider") if b.maybe() else "KSampler"
    denoise = b.one_of(0.6, 1.0) if b.rarely() else 1.0
    if way == "KSampler":
        return b.add("KSampler", **asked, denoise=denoise)
    if way == "KSamplerAdvanced":
        return b.add("KSamplerAdvanced", **asked)
    if way == "two parts":
        middle = b.common["steps"] // 2
        first = b.add("KSamplerAdvanced", **asked, end_at_step=middle, return_with_leftover_noise="enable")
        asked["latent_image"] = first
        return b.add("KSamplerAdvanced", **asked, start_at_step=middle, add_noise="disable")
    return custom(b, s, model, guider(b, s, model, texts), start, denoise)


def guider(b: Builder, s: Scene, model: Link, texts: tuple[Link, Link]) -> Link:
    kind = b.one_of("CFGGuider", "BasicGuider", "DualCFGGuider", "PerpNegGuider")
    if kind == "BasicGuider":
        return b.add(kind, model=model, conditioning=texts[0])
    if kind == "CFGGuider":
        return b.add(kind, model=model, positive=texts[0], negative=texts[1])
    if kind == "PerpNegGuider":
        return b.add(
            kind, model=model, positive=texts[0], negative=texts[1], empty_conditioning=encoded(b, s, ""), neg_scale=1.0
        )
    return b.add(kind, model=model, cond1=texts[0], cond2=encoded(b, s, TEXTS[1]), negative=texts[1])


def custom(b: Builder, s: Scene, model: Link, guided: Link, start: Link, denoise: float = 1.0) -> Link:
    """Samples with a guider; noise levels come from the model of the scene."""
    sigmas = b.add("BasicScheduler", model=model, denoise=denoise)
    asked = {"guider": guided, "sampler": b.add("KSamplerSelect")}
    if not b.rarely():
        return b.add("SamplerCustomAdvanced", **asked, noise=b.add("RandomNoise"), sigmas=sigmas, latent_image=start)
    split = b.add("SplitSigmas", sigmas=sigmas, step=1)
    first = b.add("SamplerCustomAdvanced", **asked, noise=b.add("RandomNoise"), sigmas=split, latent_image=start)
    if b.maybe():
        return first
    rest = {"noise": b.add("DisableNoise"), "sigmas": [split[0], 1], "latent_image": first}
    return b.add("SamplerCustomAdvanced", **asked, **rest)
