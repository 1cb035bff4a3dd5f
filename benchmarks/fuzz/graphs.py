"""Graphs over all nodes of the pack, valid or nearly so."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ...demo.launcher.client import Prompt
from . import inputs, parts
from .builder import BRACED, TEXTS, Builder, Draw, families_of
from .parts import DEMO, JOINT, TRANSFORMER, Scene, encoded, latent, negative, patched, picture, positive, sampled
from .prompts import Link, nodes_of

RETOUCH, GUIDANCE = "MultiSourceAttnSwap", "UREMDGuidance"
SETS = ("JointImageSampler", "LikenessJointGuider")
BLENDED = ("StepBlendedSampler", "LikenessStepBlendedGuider")
NEUTRAL: dict[str, tuple[dict[str, Any], ...]] = {
    RETOUCH: ({"strength": 0.0}, {"blocks": ""}),
    GUIDANCE: ({"step_size": 0.0}, {"appearance_weight": 0.0, "layout_weight": 0.0}),
}
"""Documented values at which a patch leaves the model unchanged, silently."""


@dataclass(frozen=True)
class Case:
    """A graph; before: one that differs in a single place and runs first, to leave behind what it can."""

    prompt: Prompt
    before: Prompt | None = None


def kinds_of(case: Case) -> set[str]:
    """Classes of the nodes in a case's graph, and its family of models."""
    kinds = {entry["class_type"] for entry in case.prompt.values()}
    drawn = {entry["inputs"].get("family", "") for entry in case.prompt.values() if entry["class_type"] == "FuzzModel"}
    loaders = {"LikenessLoadJointCheckpoint": JOINT, "LikenessDemoTransformer": TRANSFORMER}
    return kinds | (drawn or {family for kind, family in loaders.items() if kind in kinds} or {DEMO})


@st.composite
def cases(draw: Draw, schemas: dict[str, Any], methods: tuple[str, ...] = ()) -> Case:
    b = Builder(draw, schemas)
    method = b.one_of(*(methods or (*METHODS, "set")))
    joint = (JOINT, DEMO) * 3 if method == "set" else ()
    s = parts.scene(b, b.one_of(DEMO, DEMO, *joint, *families_of(b.schemas), TRANSFORMER))
    made = METHODS[method](b, s)
    b.add("FuzzResult", latent=made)
    ours = [node for node, entry in b.prompt.items() if is_ours(entry["class_type"])]
    for node in ours:
        inputs.connect(b, node)
    before = None
    if (patches := nodes_of(b.prompt, RETOUCH, GUIDANCE)) and b.rarely():
        node = b.one_of(*patches)
        b.prompt[node]["inputs"] |= b.one_of(*NEUTRAL[b.prompt[node]["class_type"]])
        return Case(b.prompt)
    for _ in range(b.number(0, 3)):
        b.change(ours)
    if b.one_of(False, False, True):
        before = copy.deepcopy(b.prompt)
        b.change(s.patched if s.patched and b.maybe() else list(b.prompt))
    return Case(b.prompt, before)


def is_ours(kind: str) -> bool:
    return kind.startswith("Likeness") or kind in (RETOUCH, GUIDANCE, *SETS, *BLENDED, *_OTHERS)


_OTHERS = ("AdaptiveMask", "AppearancePalette", "LayoutTemplate")


def _retouch(b: Builder, s: Scene) -> Link:
    model = _swapped(b, s, patched(b, s, s.model))
    made = _sample(b, s, model)
    return _looked(b, s, b.add("BasicGuider", model=model, conditioning=encoded(b, s)), made) if b.seldom() else made


def _guidance(b: Builder, s: Scene) -> Link:
    guided = _guided(b, s, patched(b, s, s.model))
    made = _sample(b, s, guided)
    if b.maybe():
        b.add("LikenessLossCurves", losses=[guided[0], 1], latent=made)
    return made


def _both(b: Builder, s: Scene) -> Link:
    return _sample(b, s, _guided(b, s, _swapped(b, s, patched(b, s, s.model, 1))))


def _sample(b: Builder, s: Scene, model: Link) -> Link:
    return sampled(b, s, patched(b, s, model, 1), (positive(b, s), negative(b, s)), latent(b, s))


def _swapped(b: Builder, s: Scene, model: Link) -> Link:
    steps = b.common["steps"]
    asked: dict[str, Any] = {
        "model": model,
        "reference": inputs.reference(b, s),
        "early_swap": b.one_of("none", "fork"),
    }
    asked |= {
        "lambda_2": steps // 2,
        "lambda_3": steps // 2 + b.one_of(0, 1),
        "mode": b.one_of("banked", "batched", "sequential"),
    }
    asked |= {"attention": b.one_of("replace", "append"), "blocks": b.one_of("all", "paper", "decoder", "middle0")}
    if b.seldom():
        asked["blocks"] = inputs.probed(b, s)
    kind = b.one_of("nothing", "nothing", "sampler", "guider", "reference", "loaded")
    if kind == "sampler":
        asked["layout"] = inputs.saved(b, s, "trajectory", [_blended_sampler(b, s)[0], 1])
    elif kind == "guider":
        guided = _blended_guider(b, s)
        made = parts.custom(b, s, s.model, guided, latent(b, s))
        made = b.add("LikenessRecordedTrajectory", guider=guided, latent=made)
        asked["layout"] = inputs.saved(b, s, "trajectory", made)
    elif kind == "loaded":
        asked["layout"] = inputs.loaded(b, s, "trajectory")
    elif kind == "reference":
        asked["layout"] = inputs.reference(b, s)
    if b.maybe():
        asked["mask"] = inputs.mask(b, s) if b.maybe() else inputs.adaptive_mask(b, s)
    if kind == "nothing":
        asked |= {"lambda_2": b.one_of(0, 1), "lambda_3": 1}
    return b.add(RETOUCH, **asked)


def _guided(b: Builder, s: Scene, model: Link) -> Link:
    asked: dict[str, Any] = {"model": model, "clip": s.clip, "text": s.text, "word": s.word}
    kind = b.one_of("palette", "template", "both")
    if kind != "template":
        made: dict[str, Any] = {"model": s.model, "clip": s.clip, "text": TEXTS[1], "word": s.word}
        made |= {"vae": s.vae, "source": b.one_of("inverted", "noised")}
        made |= {"subject": inputs.subject(b, s)} if b.rarely() else {"image": picture(b, s)}
        asked["palette"] = inputs.saved(b, s, "palette", b.add("AppearancePalette", **made))
    if kind != "palette":
        made = {"model": s.vanilla, "clip": s.clip, "text": TEXTS[1], "word": s.word, "negative": encoded(b, s, "")}
        asked["template"] = inputs.saved(b, s, "template", b.add("LayoutTemplate", **made, latent=latent(b, s)))
    asked |= {"appearance_start": 0.0, "appearance_end": 1.0, "layout_end": 1.0, "step_size": 0.1}
    return b.add(GUIDANCE, **asked)


def _blend(b: Builder, s: Scene) -> dict[str, Any]:
    asked = {"model": s.vanilla, "personalized_model": patched(b, s, s.model, 1), "positive": encoded(b, s, TEXTS[1])}
    asked |= {"personalized_positive": encoded(b, s), "negative": encoded(b, s, "")}
    return asked | {"switch_step": max(1, b.common["steps"] // 2), "record_blocks": b.one_of("", "paper", "all")}


def _blended_sampler(b: Builder, s: Scene) -> Link:
    return b.add("StepBlendedSampler", **_blend(b, s), latent=latent(b, s))


def _blended_guider(b: Builder, s: Scene) -> Link:
    return b.add("LikenessStepBlendedGuider", **_blend(b, s))


def _blended(b: Builder, s: Scene) -> Link:
    return _blended_sampler(b, s) if b.maybe() else parts.custom(b, s, s.model, _blended_guider(b, s), latent(b, s))


def _set(b: Builder, s: Scene) -> Link:
    model = s.model
    if s.family == DEMO and b.maybe():
        model = b.add("LikenessDemoJointModel")
    asked: dict[str, Any] = {"model": patched(b, s, model), "negative": encoded(b, s, "")}
    asked["blocks"] = b.one_of("all", "decoder", "middle0")
    asked["positive"] = positive(b, s)
    if s.family != JOINT and b.maybe():
        lines = "\n".join(("a photo of a fish in the snow", "a photo of a fish at night")[: b.one_of(2, 1)])
        asked["positive"] = b.add("LikenessPromptList", clip=s.clip, text=lines)
    if b.maybe():
        size = {"width": s.width, "height": s.height, "count": 1, "seed": 5}
        pixels = b.add("FuzzImage", **size)
        asked["references"] = inputs.reference(b, s) if b.maybe() else b.add("VAEEncode", pixels=pixels, vae=s.vae)
        if b.maybe():
            asked["caption"] = encoded(b, s, TEXTS[1])
    if b.maybe():
        return b.add("JointImageSampler", **asked, latent=latent(b, s))
    guided = b.add("LikenessJointGuider", **asked)
    return _looked(b, s, guided, parts.custom(b, s, model, guided, latent(b, s)))


def _looked(b: Builder, s: Scene, guided: Link, made: Link) -> Link:
    """The same LATENT; at times a node maps where a point of its pictures looks."""
    if b.maybe():
        asked: dict[str, Any] = {"guider": guided, "latent": made, "picture": b.number(1, 3), "x": b.one_of(50.0, 0.0)}
        b.add("LikenessCorrespondence", **asked)
    return made


def _maps(b: Builder, s: Scene) -> Link:
    """Attention maps as the mask of a retouch's reference, or of the latent's noise."""
    start = b.add("SetLatentNoiseMask", samples=latent(b, s), mask=inputs.maps_of(b, s))
    return sampled(b, s, s.model, (encoded(b, s), negative(b, s)), start)


def _likeness(b: Builder, s: Scene) -> Link:
    prompt = b.add("LikenessSubjectPrompt", clip=s.clip, text=BRACED, token=b.one_of("", "sks fish"))
    asked: dict[str, Any] = {"model": s.vanilla, "vae": s.vae, "subject": inputs.subject(b, s), "latent": latent(b, s)}
    if s.family == DEMO and b.seldom():
        asked["model"] = b.add("LikenessDemoJointModel")
    elif b.maybe():
        asked["personalized_model"] = patched(b, s, s.model)
    if b.rarely():
        asked |= {"layout": "drawn mask", "mask": inputs.mask(b, s)}
    return b.add("LikenessSampler", **asked, subject_prompt=[prompt[0], 4])


def _best(b: Builder, s: Scene) -> Link:
    """The best pictures of a plain run, by the demo's judge."""
    made = sampled(b, s, patched(b, s, s.model), (positive(b, s), negative(b, s)), latent(b, s))
    images = b.add("VAEDecode", samples=made, vae=s.vae)
    asked: dict[str, Any] = {"images": images, "references": picture(b, s)}
    if b.maybe():
        asked["mask"] = inputs.mask(b, s)
    judge = b.add("LikenessMetrics", identity="tinyland-judge", prompt="none")
    scores = b.add("LikenessScore", metrics=judge, **asked)
    kept = b.add("LikenessKeepBest", images=images, scores=scores, keep=b.number(1, 2), latent=made)
    return [kept[0], 1]


def _members(b: Builder, s: Scene) -> Link:
    """A set of what is cut out of a plain run's pictures, as pixels of another run."""
    made = sampled(b, s, patched(b, s, s.model), (positive(b, s), negative(b, s)), latent(b, s))
    images = b.add("VAEDecode", samples=made, vae=s.vae)
    asked = {"parts": b.one_of("each mask", "each connected part"), "border": b.one_of("keep", "drop")}
    cuts = b.add("LikenessCutOut", image=images, masks=inputs.mask(b, s), **asked, minimum_area=0.0)
    judge = b.add("LikenessMetrics", identity="tinyland-judge", prompt="none")
    same = b.add("LikenessSameSubject", metrics=judge, images=cuts, threshold=b.one_of(0.5, -1.0))
    whole = b.add("LikenessAssembleSet", images=same, captions=b.one_of("", TEXTS[1]), size=64)
    return b.add("VAEEncode", pixels=whole, vae=s.vae)


METHODS = {
    "retouch": _retouch,
    "guidance": _guidance,
    "set": _set,
    "blended": _blended,
    "maps": _maps,
    "both": _both,
    "likeness": _likeness,
    "best": _best,
    "members": _members,
}
