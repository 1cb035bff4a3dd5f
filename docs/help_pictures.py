"""List of the pictures on the help pages, and what draws each. Standard library alone.

`draw_help.py` beside it draws them from the demo's workflows; the tests compare the pages with this list.
"""

from __future__ import annotations

from .help_panels import Panel, Picture, batch, dial, row
from .help_stored import STORED

PHOTO = "The photograph"

PICTURES: dict[str, tuple[Picture, ...]] = {
    "LikenessSampler": (
        row(
            "LikenessSampler",
            f"{PHOTO}, then the same seed with likeness 0, the model alone, and with likeness 1.",
            Panel("likeness_sampler", "3"),
            Panel("likeness_sampler", "8", {"7.likeness": 0}),
            Panel("likeness_sampler", "8", {"7.likeness": 1}),
        ),
        dial(
            "LikenessSampler",
            *("likeness_sampler", "8", "7.likeness", (0, 0.5, 1)),
            caption="**Likeness** from 0 to 1, with one photograph and no LoRA.",
        ),
    ),
    "LikenessSubject": (
        row(
            "LikenessSubject",
            f"{PHOTO}, then the same seed without and with the subject.",
            Panel("subject", "4"),
            Panel("subject", "14"),
            Panel("subject", "12"),
        ),
        dial(
            "LikenessSubject",
            *("subject", "7.1", "6.threshold", (0.2, 0.4, 0.6, 0.8)),
            caption="**Threshold of the map**: the area of the photograph that counts as the subject.",
        ),
    ),
    "LikenessSubjectPrompt": (
        row(
            "LikenessSubjectPrompt",
            "One seed: VANILLA on the vanilla model, PERSONALIZED on the model with the LoRA, and the words' heatmap.",
            Panel("subject_prompt", "7"),
            Panel("subject_prompt", "8"),
            Panel("subject_prompt", "11.1"),
        ),
    ),
    "AdaptiveMask": (
        row(
            "AdaptiveMask",
            "The layout image, then PREVIEW: the subject in it and the mask over it.",
            Panel("adaptive_mask", "9"),
            Panel("adaptive_mask", "16.2", {"16.subject_mask": None}),
        ),
        dial(
            "AdaptiveMask",
            *("adaptive_mask", "16.1", "16.threshold", (0.1, 0.3, 0.5, 0.7)),
            changes={"16.subject_mask": None},
            caption="**Threshold of the map**: MASK at the start of a run.",
        ),
    ),
    "AppearancePalette": (
        row(
            "AppearancePalette",
            f"{PHOTO}, then the same seed without and with guidance by its palette.",
            Panel("uremd_guidance", "11"),
            Panel("uremd_guidance", "22"),
            Panel("uremd_guidance", "19"),
        ),
        dial(
            "AppearancePalette",
            *("uremd_guidance", "14.1", "14.threshold", (0.2, 0.4, 0.6, 0.8)),
            caption="**Threshold of the map**: the area of the photograph that gives the palette.",
        ),
    ),
    "JointImageSampler": (
        row(
            "JointImageSampler",
            "One of three photographs, then one picture of a set with strength 0 and with strength 1.",
            Panel("jedi", "6"),
            Panel("jedi", "10", {"9.strength": 0}),
            Panel("jedi", "10"),
        ),
        dial(
            "JointImageSampler",
            *("jedi", "10", "9.strength", (0, 0.5, 1)),
            caption="**Strength** from 0 to 1 on the demo's joint model.",
        ),
    ),
    "LayoutTemplate": (
        row(
            "LayoutTemplate",
            "The LoRA alone, then the same seed with a template whose box lies at the lower right.",
            Panel("layout_template", "22"),
            Panel("layout_template", "19", {"8.boxes": ".5 .5 1 1"}),
        ),
        dial(
            "LayoutTemplate",
            *("layout_template", "19", "8.boxes", ("0 0 .5 .5", ".2 .2 .8 .8", ".5 .5 1 1")),
            caption="**Boxes**: the same seed with three boxes.",
        ),
    ),
    "MultiSourceAttnSwap": (
        row(
            "MultiSourceAttnSwap",
            "The LoRA alone, the layout image, and the retouched picture; one seed.",
            Panel("layout_and_retouch", "22"),
            Panel("layout_and_retouch", "9"),
            Panel("layout_and_retouch", "19"),
        ),
        dial(
            "MultiSourceAttnSwap",
            *("layout_and_retouch", "19", "17.strength", (0, 0.5, 1)),
            caption="**Strength** from 0 to 1.",
        ),
    ),
    "StepBlendedSampler": (
        row(
            "StepBlendedSampler",
            "One seed: the vanilla model alone, the LoRA alone, and a switch at step 12 of 25.",
            Panel("step_blended_sampler", "8", {"7.switch_step": 25}),
            Panel("step_blended_sampler", "8", {"7.switch_step": 0}),
            Panel("step_blended_sampler", "8"),
        ),
        dial(
            "StepBlendedSampler",
            *("step_blended_sampler", "8", "7.switch_step", (0, 6, 12, 25)),
            caption="**Switch after step (τ)**, of 25 steps.",
        ),
    ),
    "UREMDGuidance": (
        row(
            "UREMDGuidance",
            f"{PHOTO}, then one seed of the vanilla model, the checkpoint without a LoRA: unguided and guided.",
            Panel("uremd_guidance", "11"),
            Panel("uremd_guidance", "22"),
            Panel("uremd_guidance", "19"),
        ),
        dial(
            "UREMDGuidance",
            *("uremd_guidance", "19", "17.step_size", (0.05, 0.1, 0.2)),
            caption="**Step size (likeness)**, with *relative* steps.",
        ),
    ),
    "LikenessReference": (
        row(
            "LikenessReference",
            "Two photographs, then the same seed of the LoRA without and with them as references.",
            Panel("reference", "11"),
            Panel("reference", "35"),
            Panel("reference", "19", {"18.model": ["2", 0]}),
            Panel("reference", "19"),
        ),
        dial(
            "LikenessReference",
            *("reference", "19", "38.weight", (1, 2, 4)),
            caption="**Weight** of the second photograph beside one of weight 1.",
        ),
    ),
    "LikenessJointGuider": (
        row(
            "LikenessJointGuider",
            "One of two photographs, then one picture of a set with strength 0 and with strength 1.",
            Panel("joint_guider", "6"),
            Panel("joint_guider", "10", {"9.strength": 0}, batch=2),
            Panel("joint_guider", "10", batch=2),
        ),
        dial(
            "LikenessJointGuider",
            *("joint_guider", "10", "9.strength", (0, 0.5, 1)),
            batch=2,
            caption="**Strength** from 0 to 1 on a model that was not trained on sets.",
        ),
    ),
    "LikenessStepBlendedGuider": (
        row(
            "LikenessStepBlendedGuider",
            "One seed: the LoRA alone, and a switch at step 12 of 25.",
            Panel("step_blended_guider", "12", {"7.switch_step": 0}),
            Panel("step_blended_guider", "12"),
        ),
        dial(
            "LikenessStepBlendedGuider",
            *("step_blended_guider", "12", "7.switch_step", (0, 6, 12, 25)),
            caption="**Switch after step (τ)**, of 25 steps of *dpmpp_2m*.",
        ),
    ),
    "LikenessAttentionMaps": (
        row(
            "LikenessAttentionMaps",
            "A picture, and the attention to *fish* over it.",
            Panel("attention_maps", "6"),
            Panel("attention_maps", "7.1"),
        ),
        dial(
            "LikenessAttentionMaps",
            *("attention_maps", "7.1", "7.word", ("red", "striped", "fish", "sea")),
            caption="**Word of the subject**: one picture, four words of its prompt.",
        ),
    ),
    "LikenessCorrespondence": (
        row(
            "LikenessCorrespondence",
            "PREVIEW: the point in one picture of a set, and where in the others its attention looks.",
            Panel("correspondence", "12.1", batch=2),
        ),
        dial(
            "LikenessCorrespondence",
            *("correspondence", "12.1", "12.x", (25, 50, 75)),
            batch=2,
            caption="**Point: x (percent)**: three points of one height.",
        ),
    ),
    "LikenessDemoSubject": (
        row(
            "LikenessDemoSubject",
            "One of the subject's pictures, then one seed without and with its LoRA.",
            Panel("demo_subject", "2.1"),
            Panel("demo_subject", "7", {"2.strength": 0}),
            Panel("demo_subject", "7"),
        ),
        dial(
            "LikenessDemoSubject",
            *("demo_subject", "7", "2.strength", (0, 0.5, 1)),
            caption="**Strength** of the LoRA.",
        ),
    ),
    "LikenessDemoModel": (
        row(
            "LikenessDemoModel",
            "*a photo of a red striped fish in the sea*: four pictures of one batch.",
            *batch("demo_model", "6", 4, 4),
        ),
    ),
    "LikenessDemoJointModel": (
        row(
            "LikenessDemoJointModel",
            "A photograph of a subject that the model has not seen, and the set drawn from three of them.",
            Panel("jedi", "6"),
            *batch("jedi", "10", 3, 1),
        ),
    ),
    "LikenessDemoTransformer": (
        row(
            "LikenessDemoTransformer",
            "A picture of the subject, then one seed: alone, with the picture appended, with two models.",
            Panel("demo_transformer", "8"),
            Panel("demo_transformer", "12"),
            Panel("demo_transformer", "15"),
            Panel("demo_transformer", "18"),
        ),
    ),
    "LikenessPromptList": (
        row(
            "LikenessPromptList",
            "One list, three pictures: *in the snow*, *on the beach*, *in the city*.",
            *batch("jedi", "10", 3, 1),
        ),
    ),
    "LikenessCutOut": (
        row(
            "LikenessCutOut",
            "Two pictures, and the subjects cut out of them.",
            *batch("same_subject", "7", 2, 4),
            *batch("same_subject", "9", 2, 4),
        ),
    ),
    "LikenessSameSubject": (
        row(
            "LikenessSameSubject",
            "The instances that go in, then the first two of those that are kept.",
            *batch("same_subject", "9", 2, 4),
            *batch("same_subject", "11", 2, 4),
        ),
    ),
    "LikenessAssembleSet": (
        row("LikenessAssembleSet", "A set: its members in one picture.", Panel("same_subject", "12", batch=4)),
    ),
    "LikenessKeepBest": (
        row(
            "LikenessKeepBest",
            "Above: eight seeds. Below: the two with the best scores.",
            *batch("keep_best", "7", 8, 8),
            *batch("keep_best", "22", 2, 8),
        ),
    ),
    "LikenessLayerProbe": (row("LikenessLayerProbe", "PLOT of the demo model.", Panel("layer_probe", "7.3")),),
    "LikenessLossCurves": (
        row("LikenessLossCurves", "CURVES of the workflow *pick_and_draw*.", Panel("pick_and_draw", "25")),
    ),
    **STORED,
}
"""{node: its pictures, the one of the first screen first}."""
