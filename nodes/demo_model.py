"""The demo's nodes: bundled tiny models, one of them a transformer, and personalized subjects."""

from __future__ import annotations

import folder_paths

from ..patching.tinyland import model as tinyland
from ..patching.tinyland import subject as demo_subject
from ..patching.tinyland import transformer
from ._api import DEMO, io, schema


def _outputs(model: str, clip: str, vae: str) -> list:
    return [
        io.Model.Output("model", display_name="MODEL", tooltip=model),
        io.Clip.Output("clip", display_name="CLIP", tooltip=clip),
        io.Vae.Output("vae", display_name="VAE", tooltip=vae),
    ]


def _embeddings() -> list[str]:
    return [*folder_paths.get_folder_paths("embeddings"), str(tinyland.WEIGHTS / "embeddings")]


def _state(*names: str) -> tuple:
    return demo_subject.file_state(*(tinyland.WEIGHTS / f"{name}.safetensors" for name in names))


class LikenessDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessDemoModel",
            display_name="Demo Model (Tinyland)",
            category=DEMO,
            description=(
                "The bundled tiny model: a narrow SD 1.x network that draws scenes of 128x128 pixels. No download."
            ),
            inputs=[],
            outputs=_outputs(
                "The vanilla model, for any sampler and LoRA loader.",
                "Its text encoder, with the pack's own embeddings.",
                "Its autoencoder: latents of 4 channels, downscaled 8 times.",
            ),
        )

    @classmethod
    def fingerprint_inputs(cls):
        return _state("denoiser", "autoencoder")

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*tinyland.load(tinyland.WEIGHTS, _embeddings()))


class LikenessDemoJointModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessDemoJointModel",
            display_name="Demo Joint Model (Tinyland)",
            category=DEMO,
            description=(
                "The bundled tiny model, fine-tuned on sets of pictures (JeDi), for the Joint Image Sampler. No "
                "download."
            ),
            inputs=[],
            outputs=_outputs(
                "The joint model of nine input channels; it states their order to the Joint Image Sampler.",
                "The demo model's text encoder, with the pack's own embeddings.",
                "The demo model's autoencoder.",
            ),
        )

    @classmethod
    def fingerprint_inputs(cls):
        return _state("denoiser", "autoencoder", "joint")

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*tinyland.load(tinyland.WEIGHTS, _embeddings(), joint=True))


class LikenessDemoTransformer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessDemoTransformer",
            display_name="Demo Transformer (Tinyland)",
            category=DEMO,
            description=(
                "The bundled tiny diffusion transformer: a narrow Z-Image network that draws the demo model's scenes. "
                "No download."
            ),
            inputs=[],
            outputs=_outputs(
                "The vanilla transformer, for any sampler; its LoRAs are those of Demo Subject.",
                "The demo model's text encoder, with the pack's own embeddings.",
                "The demo model's autoencoder.",
            ),
        )

    @classmethod
    def fingerprint_inputs(cls):
        return _state("denoiser", "autoencoder", "transformer")

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*transformer.load(tinyland.WEIGHTS, _embeddings()))


class LikenessDemoSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessDemoSubject",
            display_name="Demo Subject (Tinyland)",
            category=DEMO,
            description=(
                "Personalizes the demo model to a bundled subject, and outputs the subject's four pictures and "
                "matching prompts. Every subject was tuned on four pictures of one place and pose."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip=(
                        "The demo model; the subjects' LoRAs fit no other. For the demo transformer, two subjects have "
                        "a LoRA, nemo and taxi."
                    ),
                ),
                io.Combo.Input(
                    "subject",
                    options=demo_subject.names(),
                    tooltip="The subject to personalize the model to. No neutral value.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.01,
                    tooltip=(
                        "Strength of the subject's LoRA. Neutral: 0, the model is unchanged. The subjects were tuned "
                        "for 1."
                    ),
                ),
                io.String.Input(
                    "scene",
                    default="in the snow",
                    tooltip=(
                        "Surroundings, the end of both prompts. Neutral: empty. The demo model knows: on the beach, in "
                        "the snow, on the grass, in the desert, at night, in the city, in the sea, in a room."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(
                    "personalized_model",
                    display_name="PERSONALIZED MODEL",
                    tooltip="The model with the subject's LoRA.",
                ),
                io.Image.Output("references", display_name="REFERENCES", tooltip="The subject's four pictures."),
                io.String.Output(
                    "personalized_prompt",
                    display_name="PERSONALIZED PROMPT",
                    tooltip="The prompt with the placeholder word.",
                ),
                io.String.Output(
                    "prompt",
                    display_name="PROMPT",
                    tooltip="The same prompt without the placeholder, for the vanilla model.",
                ),
                io.String.Output(
                    "neutral_prompt",
                    display_name="NEUTRAL PROMPT",
                    tooltip="The personalized prompt without surroundings.",
                ),
                io.String.Output(
                    "word", display_name="WORD", tooltip="The subject's class noun, which is in all three prompts."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, subject: str = "", **_others):
        return demo_subject.file_state(
            *demo_subject.files(subject), demo_subject.of_transformer(subject, tinyland.WEIGHTS)
        )

    @classmethod
    def execute(cls, model, subject: str, strength: float, scene: str) -> io.NodeOutput:
        chosen = demo_subject.Subject.load(subject)
        return io.NodeOutput(
            chosen.personalize(model, strength),
            chosen.references(),
            chosen.personalized_prompt(scene),
            chosen.prompt(scene),
            chosen.personalized_prompt(""),
            chosen.class_name,
        )
