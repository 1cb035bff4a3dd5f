"""The pack's nodes: one file per noun."""

from __future__ import annotations

from ._api import ComfyExtension
from ._kept import add_routes
from .adaptive_mask import AdaptiveMask
from .assemble_set import LikenessAssembleSet
from .attention_maps import LikenessAttentionMaps
from .correspondence import LikenessCorrespondence
from .cut_out import LikenessCutOut
from .demo_model import LikenessDemoJointModel, LikenessDemoModel, LikenessDemoSubject, LikenessDemoTransformer
from .joint_checkpoint import LikenessLoadJointCheckpoint
from .joint_guider import LikenessJointGuider
from .joint_image_sampler import JointImageSampler
from .layer_probe import LikenessLayerProbe
from .likeness_sampler import LikenessSampler
from .loss_curves import LikenessLossCurves
from .metrics import LikenessKeepBest, LikenessMetrics, LikenessScore
from .multi_source_attn_swap import MultiSourceAttnSwap
from .palette import AppearancePalette
from .palette_file import LikenessLoadPalette, LikenessSavePalette
from .prompt_list import LikenessPromptList
from .reference import LikenessLoadReference, LikenessReference, LikenessSaveReference
from .same_subject import LikenessSameSubject
from .segment import LikenessSegment
from .step_blended import LikenessStepBlendedGuider, StepBlendedSampler
from .subject import LikenessSubject
from .subject_prompt import LikenessSubjectPrompt
from .template import LayoutTemplate, LikenessLoadTemplate, LikenessSaveTemplate
from .trajectory import LikenessLoadTrajectory, LikenessRecordedTrajectory, LikenessSaveTrajectory
from .uremd_guidance import UREMDGuidance


def node_classes() -> list:
    """Every public node, in the order of the menu."""
    return [
        LikenessSubjectPrompt,
        LikenessSubject,
        LikenessSampler,
        StepBlendedSampler,
        LikenessStepBlendedGuider,
        LikenessRecordedTrajectory,
        LikenessSaveTrajectory,
        LikenessLoadTrajectory,
        MultiSourceAttnSwap,
        LikenessReference,
        LikenessSaveReference,
        LikenessLoadReference,
        AdaptiveMask,
        LikenessSegment,
        AppearancePalette,
        LayoutTemplate,
        UREMDGuidance,
        LikenessLossCurves,
        LikenessSavePalette,
        LikenessLoadPalette,
        LikenessSaveTemplate,
        LikenessLoadTemplate,
        JointImageSampler,
        LikenessJointGuider,
        LikenessPromptList,
        LikenessLoadJointCheckpoint,
        LikenessAttentionMaps,
        LikenessCorrespondence,
        LikenessLayerProbe,
        LikenessMetrics,
        LikenessScore,
        LikenessKeepBest,
        LikenessCutOut,
        LikenessSameSubject,
        LikenessAssembleSet,
        LikenessDemoModel,
        LikenessDemoSubject,
        LikenessDemoJointModel,
        LikenessDemoTransformer,
    ]


class Likeness(ComfyExtension):
    """The pack, as ComfyUI sees it."""

    async def get_node_list(self) -> list:
        return node_classes()


def comfy_entrypoint() -> ComfyExtension:
    """The extension that ComfyUI asks for the pack's nodes."""
    add_routes()
    return Likeness()
