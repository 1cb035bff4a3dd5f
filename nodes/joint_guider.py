"""LikenessJointGuider: JointImageSampler's guider for SamplerCustomAdvanced."""

from __future__ import annotations

from ._api import SAMPLE, TELLS, io, notices, output, schema
from ._joint import coupling_inputs, guider_of, joint_cfg_input, optional_inputs, set_inputs, valid_set

NODE = "Joint Guider"


class LikenessJointGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessJointGuider",
            display_name="Joint Guider (JeDi)",
            category=SAMPLE,
            description=(
                "The Joint Image Sampler as a guider for SamplerCustomAdvanced, for any sampler, noise and sigmas. "
                "Give the sampler a latent batch of one picture per prompt."
            ),
            is_input_list=True,
            inputs=[*set_inputs(), joint_cfg_input(), *coupling_inputs(), *optional_inputs()],
            outputs=[io.Guider.Output("guider", display_name="GUIDER", tooltip="Connect it to SamplerCustomAdvanced.")],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, guidance=None, blocks=None, input_types=None) -> bool | str:
        return valid_set(cls, NODE, guidance, blocks, input_types)

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
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
        return output(told, guider)
