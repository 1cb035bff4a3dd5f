"""Words by which the search of the graph editor finds nodes: those of a newcomer, and the papers' own.

The search sorts by title and id alone: a node whose title has the word comes before one that has it here. Guiders have
no newcomer's words, so that the samplers come first.
"""

from __future__ import annotations

ALIASES = {
    "AdaptiveMask": "layout and retouch, soft mask, subject mask, mask from prompt, distance transform",
    "LikenessAttentionMaps": "cross attention, heatmap, attention map, DAAM, word mask, mask from prompt, text mask",
    "LikenessCorrespondence": (
        "correspondences, correspondence, matching points, self attention, attention map, heatmap, jedi, figure 5"
    ),
    "LikenessDemoModel": "tinyland, tiny model, test checkpoint",
    "LikenessDemoJointModel": "tinyland, jedi, joint checkpoint",
    "LikenessDemoTransformer": "tinyland, DiT, z-image, lumina, tiny transformer, test checkpoint",
    "LikenessDemoSubject": "tinyland subject, personalized model, reference images",
    "LikenessLayerProbe": "layers, analyze blocks, vital layers, find blocks, rope, freeflux, stable flow",
    "LikenessLoadJointCheckpoint": "jedi, load checkpoint",
    "LikenessJointGuider": "jedi, joint diffusion",
    "JointImageSampler": (
        "jedi, joint diffusion, identity, same character, consistent character, consistency, "
        "character sheet, ipadapter, reference images, story, storyboard"
    ),
    "LikenessSampler": (
        "likeness, identity, face, ipadapter, same character, same subject, consistent character, "
        "consistency, character sheet, dreambooth, lora, personalization, style, reference only, photo, "
        "ksampler"
    ),
    "LikenessMetrics": "dino, clip score, clip-i, clip-t, similarity, load metrics, evaluation, tinyland judge",
    "LikenessScore": (
        "clip score, clip-i, clip-t, dino, similarity, identity, compare images, evaluation, metric, face similarity"
    ),
    "LikenessKeepBest": "best of n, best seed, choose, select, rank, sort by score, pick best, filter images",
    "LikenessCutOut": "instances, crop by mask, remove background, separate objects, SAM, split mask, jedi, S3",
    "LikenessSameSubject": "filter images, duplicates, same object, similarity, clip filter, choose, jedi, S3",
    "LikenessAssembleSet": "stack images, data set, dataset, training set, captions, contact sheet, jedi, S3",
    "LikenessLossCurves": "loss plot, guidance curve, graph, plot",
    "MultiSourceAttnSwap": (
        "multi-source attention swap, layout and retouch, attention swap, MasaCtrl, identity, face, "
        "ipadapter, style, reference attention, reference only, subject transfer, lora, dreambooth"
    ),
    "AppearancePalette": (
        "pick and draw, reference features, subject palette, identity, face, ipadapter, style, look, saliency mask"
    ),
    "LikenessSavePalette": "feature bank, save palette",
    "LikenessLoadPalette": "feature bank, load palette",
    "LikenessPromptList": "multiple prompts, prompt batch, story, storyboard, character sheet",
    "LikenessReference": "reference image, subject image, identity, face, ipadapter, reference only, photo, inversion",
    "LikenessSaveReference": "feature bank, save features",
    "LikenessLoadReference": "feature bank, load features",
    "LikenessSegment": "SAM, segment anything, mask, mask from prompt, cut out, background removal",
    "StepBlendedSampler": (
        "step-blended sampler, layout and retouch, layout, composition, lora, dreambooth, personalization, "
        "two models, switch model"
    ),
    "LikenessStepBlendedGuider": "step-blended guider, layout and retouch, two models",
    "LikenessSubject": (
        "subject, photos, my photos, reference images, identity, face, ipadapter, character, "
        "same character, consistent character, dreambooth, pulid, instantid, my dog"
    ),
    "LikenessSubjectPrompt": (
        "subject prompt, personalized prompt, sks, token, trigger word, dreambooth, lora, clip text encode"
    ),
    "LayoutTemplate": (
        "pick and draw, layout guidance, composition, regional prompt, cross attention template, boxes, bounding box"
    ),
    "LikenessSaveTemplate": "save template, save layout, layout guidance",
    "LikenessLoadTemplate": "load template, load layout, layout guidance",
    "LikenessRecordedTrajectory": "recorded trajectory, record layout, trajectory",
    "LikenessSaveTrajectory": "save trajectory, feature bank, save layout",
    "LikenessLoadTrajectory": "load trajectory, feature bank, load layout",
    "UREMDGuidance": (
        "uremd guidance, pick and draw, identity, face, ipadapter, same character, style, "
        "gradient guidance, appearance guidance, layout guidance, no training"
    ),
}
"""{node id: words, separated by commas}; the search knows the title and the id without them."""


def aliases_of(node_id: str) -> list[str]:
    """The words that find a node."""
    return ALIASES[node_id].split(", ") if node_id in ALIASES else []
