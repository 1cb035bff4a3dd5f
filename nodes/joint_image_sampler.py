"""JointImageSampler: samples a set of pictures of one subject (JeDi, arXiv 2407.06187)."""

from __future__ import annotations

from ..patching.host.failures import leaving_nothing
from ..patching.jedi.sampling import sample_set
from ._api import SAMPLE, TELLS, io, notices, output, schema
from ._joint import coupling_inputs, guider_of, joint_cfg_input, one, optional_inputs, set_inputs, valid_set
from ._sampling import denoise_input, sampler_input, scheduler_input, seed_input, steps_input

NODE = "Joint Image Sampler"


class JointImageSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="JointImageSampler",
            display_name="Joint Image Sampler (JeDi)",
            category=SAMPLE,
            description=(
                "Denoises a set of pictures together, one per prompt, so that all show the same subject: the "
                "references' subject, or a new one without references."
            ),
            is_input_list=True,
            inputs=[
                *set_inputs(),
                io.Latent.Input(
                    "latent",
                    tooltip="Size of the pictures: an empty latent of one picture, or one per prompt.",
                ),
                seed_input(
                    "Seed of the first picture, counted up for the next ones; a list gives one per picture. Every "
                    "picture starts from KSampler's noise for its seed. Noise added during sampling comes from "
                    "the smallest seed. No neutral value."
                ),
                steps_input("Number of sampling steps. No neutral value; the paper gives none."),
                joint_cfg_input(),
                sampler_input("Any sampler. No neutral value; the paper gives none, we suggest ddim."),
                scheduler_input("Any scheduler. No neutral value; the paper gives none, we suggest ddim_uniform."),
                denoise_input("Share of the noise schedule that is run. Neutral: 1, from pure noise, as in the paper."),
                *coupling_inputs(),
                *optional_inputs(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="One picture per prompt, in prompt order.")
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, guidance=None, blocks=None, input_types=None) -> bool | str:
        return valid_set(cls, NODE, guidance, blocks, input_types)

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        model,
        positive,
        negative,
        latent,
        seed,
        steps,
        sampler,
        scheduler,
        denoise,
        references=None,
        caption=None,
        clip=None,
        vae=None,
        subject_prompt=None,
        **widgets,
    ) -> io.NodeOutput:
        told = notices(cls)
        guider = guider_of(
            NODE,
            model=model,
            positive=positive,
            negative=negative,
            references=references,
            caption=caption,
            widgets=widgets,
            told=told,
            clip=clip,
            vae=vae,
            subject_prompt=subject_prompt,
        )
        made = sample_set(
            guider,
            one(NODE, "latent", latent),
            pictures=len(positive),
            seeds=seed,
            steps=one(NODE, "steps", steps),
            sampler=one(NODE, "sampler", sampler),
            scheduler=one(NODE, "scheduler", scheduler),
            denoise=one(NODE, "denoise", denoise),
            node=NODE,
        )
        return output(told, made)
