"""Choice of LikenessSampler's method, and checks of its inputs before anything runs; each failure is one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import checks as host_checks
from ..host.families import discover
from ..host.loras import tell_misfits
from ..host.same import same_model
from ..jedi.format import ATTACHMENT, IN_CHANNELS
from .sampler_inputs import NODE, Inputs
from .sampler_settings import (
    AUTOMATIC,
    DRAWN,
    JOINT,
    OWN,
    PALETTE,
    RETOUCH,
    TEMPLATE,
    acting_part,
    layout_end,
)

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_ADAPTIVE = "dpm_adaptive"


def check_layout(layout: str, masked: bool) -> None:
    """Raises ValueError for a mask without the layout that uses it, and the reverse."""
    if layout == DRAWN and not masked:
        raise ValueError(
            f"{NODE}: expected a mask for layout {DRAWN}, got none; connect mask, or set layout to {TEMPLATE}."
        )
    if layout != DRAWN and masked:
        raise ValueError(
            f"{NODE}: expected layout {DRAWN} with a mask, got {layout}; set layout to {DRAWN}, or disconnect mask."
        )


def check_method(method: str, layout: str, sampler: str) -> None:
    """Raises ValueError for a layout or a sampler that a method cannot use."""
    if method == JOINT and layout == DRAWN:
        raise ValueError(
            f"{NODE}: expected layout {TEMPLATE} or {OWN} for method {JOINT}, got {DRAWN}; set method to {PALETTE} or "
            f"{RETOUCH}, or disconnect mask and inpaint with Set Latent Noise Mask."
        )
    if method == RETOUCH and layout == TEMPLATE and sampler == _ADAPTIVE:
        raise ValueError(
            f"{NODE}: expected a sampler of fixed steps for method {RETOUCH} with layout {TEMPLATE}, got {_ADAPTIVE}; "
            f"choose another sampler, or set layout to {OWN}."
        )


def chosen_method(inputs: Inputs, method: str) -> tuple[str, str]:
    """The method, and the reason for it as the end of a sentence."""
    if method != AUTOMATIC:
        return method, "as chosen on the node"
    if is_joint(inputs.target) or is_joint(inputs.model):
        return JOINT, "because the checkpoint is a joint one"
    if not same_model(inputs.model, inputs.target):
        return RETOUCH, "because a personalized model is connected"
    if inputs.personalized:
        return RETOUCH, "because the prompt has a learned token"
    return PALETTE, "because the photographs alone show the subject"


def tell_personalized(inputs: Inputs) -> None:
    """Warns of a personalized model that computes the same as the vanilla one, and of a LoRA that does not fit."""
    if inputs.personalized_model is not None and same_model(inputs.model, inputs.target):
        inputs.notices.tell(
            "personalized_model computes the same as model, so it adds nothing; connect the model behind the subject's "
            "LoRA, made for this checkpoint, or disconnect personalized_model."
        )
    tell_misfits(inputs.target, "model" if inputs.personalized_model is None else "personalized_model", inputs.notices)


def check_models(inputs: Inputs, method: str) -> None:
    """Raises ValueError for checkpoints that a method cannot use, and for a VAE of another family.

    Likewise for masks that are neither one nor one per picture.
    """
    host_checks.check_vae(inputs.target, inputs.vae, NODE)
    if inputs.mask is not None:
        masks = len(inputs.mask) if inputs.mask.ndim > 2 else 1
        host_checks.check_count(masks, len(inputs.latent["samples"]), "mask", NODE)
    if method != JOINT and (is_joint(inputs.model) or is_joint(inputs.target)):
        raise ValueError(
            f"{NODE}: expected a checkpoint for single pictures for method {method}, got a joint one; set method to "
            f"{JOINT}, or connect another model."
        )
    if method == JOINT and is_joint(inputs.model) and not is_joint(inputs.target):
        raise ValueError(
            f"{NODE}: expected no personalized_model beside a joint checkpoint, got another checkpoint there; "
            "disconnect personalized_model."
        )
    # Not every transformer has the attribute.
    channels = getattr(inputs.target.get_model_object("diffusion_model"), "in_channels", None)
    if method == JOINT and not is_joint(inputs.target) and channels == IN_CHANNELS:
        raise ValueError(
            f"{NODE}: expected a joint checkpoint that states the order of its {IN_CHANNELS} input channels, got one "
            "that does not, such as an inpainting checkpoint; load a joint one with Load Joint Checkpoint, or "
            f"set method to {AUTOMATIC}."
        )
    if method != JOINT and inputs.personalized_model is not None:
        host_checks.check_models(inputs.model, inputs.target, NODE)
        vanilla, personalized = (discover(model, NODE) for model in (inputs.model, inputs.target))
        if [block.name for block in vanilla] != [block.name for block in personalized]:
            raise ValueError(
                f"{NODE}: expected models of one family, got one with {len(vanilla)} and one with {len(personalized)} "
                "attention blocks; connect a personalized_model made from the same family as model."
            )
    for prompt in (inputs.positive, inputs.prompt.vanilla_conditioning, inputs.prompt.negative_conditioning):
        host_checks.check_text(inputs.target, prompt, "subject_prompt", NODE)
    if method == RETOUCH and inputs.layout == TEMPLATE and not inputs.personalized:
        raise ValueError(
            f"{NODE}: expected a personalized_model that differs from model, or a prompt with a token, for method "
            f"{RETOUCH} with layout {TEMPLATE}, got neither; connect the model behind the subject's LoRA to "
            f"personalized_model, or set layout to {OWN}."
        )


def layout_of_run(inputs: Inputs, method: str) -> tuple[str, str]:
    """The layout that a run can have, and the end of the report's sentence about it.

    Raises ValueError for a run without the steps in which the method or a drawn layout acts.
    """
    if method == JOINT:
        return OWN, "the set's own, since members of a set follow no template"
    raised = "steps" if inputs.denoise == 1 else "denoise or steps"
    start, end = acting_part(method)
    if inputs.steps_before(end) == inputs.steps_before(start):
        raise ValueError(
            f"{NODE}: expected a step between {start:g} and {end:g} of sampling for method {method}, got none of "
            f"{len(inputs.levels)} with denoise {inputs.denoise:g}; raise {raised}."
        )
    layout = inputs.layout
    early = inputs.steps_before(layout_end(method, layout))
    if layout == TEMPLATE and early:
        return layout, f"decided by the vanilla model in the first {early} of {len(inputs.levels)} steps"
    if layout == DRAWN and early:
        return layout, f"the drawn mask's, in the first {early} of {len(inputs.levels)} steps"
    if layout == DRAWN:
        raise ValueError(
            f"{NODE}: expected a step before {layout_end(method, layout):g} of sampling for layout {DRAWN}, got none "
            f"with denoise {inputs.denoise:g}; raise {raised}, or set layout to {OWN}."
        )
    if layout == TEMPLATE and inputs.denoise == 1:
        return OWN, (
            f"the picture's own, since none of {len(inputs.levels)} steps begins in the first "
            f"{layout_end(method, layout):g} of sampling; raise steps for the vanilla model's"
        )
    if layout == TEMPLATE:
        return OWN, f"the given picture's, since denoise {inputs.denoise:g} leaves out the steps that decide it"
    return OWN, "the picture's own"


def is_joint(model: ModelPatcher) -> bool:
    """True for a joint checkpoint, which states the order of its input channels."""
    return model.get_attachment(ATTACHMENT) is not None
