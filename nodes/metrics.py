"""LikenessMetrics, LikenessScore and LikenessKeepBest: how like the subject pictures are, and the best of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_execution.graph_utils import ExecutionBlocker

from ..patching.evaluation import best, metrics, scores
from ._api import ADVANCED, FILES, SAMPLE, TELLS, MetricsType, io, notices, output, schema, ui
from ._validate import check, in_options, valid

if TYPE_CHECKING:
    import torch

    from ..patching.evaluation.metrics import Metrics


class LikenessMetrics(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessMetrics",
            display_name="Likeness Metrics",
            category=FILES,
            description=(
                "Loads the networks by which the papers measure likeness, from models/likeness_metrics. Nothing is "
                "downloaded."
            ),
            inputs=[
                io.Combo.Input(
                    "identity",
                    options=list(metrics.IDENTITY),
                    default="dino-vits16",
                    tooltip=(
                        "Compares pictures with photographs. The papers: dino-vits16 (DINO) and clip-vit-base-patch32 "
                        "(CLIP-I). tinyland-judge knows the demo's world alone. No neutral value."
                    ),
                ),
                io.Combo.Input(
                    "prompt",
                    options=list(metrics.PROMPT),
                    default=metrics.NONE,
                    tooltip=(
                        "Compares pictures with a prompt. The papers: clip-vit-base-patch32 (CLIP-T). Neutral: none."
                    ),
                ),
                io.Combo.Input(
                    "geometry",
                    options=list(metrics.GEOMETRY),
                    default=metrics.USUAL,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Scaling and cropping before identity. usual: as in most published evaluations, clip-224 or "
                        "imagenet-256-224. Scores of two geometries do not compare. Neutral: usual."
                    ),
                ),
            ],
            outputs=[MetricsType.Output("metrics", display_name="METRICS", tooltip="For Likeness Score.")],
        )

    @classmethod
    def validate_inputs(cls, identity=None, prompt=None, geometry=None) -> bool | str:
        return valid(
            check(in_options, cls, identity=identity, prompt=prompt, geometry=geometry),
            check(metrics.existing, identity),
            check(metrics.existing, None if prompt == metrics.NONE else prompt),
            check(metrics.check_geometry, identity, geometry),
        )

    @classmethod
    def fingerprint_inputs(cls, identity: str = "", prompt: str = metrics.NONE, geometry: str = metrics.USUAL):
        """Changes with the geometry and with a network's file, so that the host loads it again."""
        try:
            paths = [metrics.existing(name) for name in (identity, prompt) if name != metrics.NONE]
        except ValueError:
            return None
        return geometry, *((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)

    @classmethod
    def execute(cls, identity: str, prompt: str, geometry: str = metrics.USUAL) -> io.NodeOutput:
        return io.NodeOutput(metrics.load(identity, prompt, geometry))


class LikenessScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessScore",
            display_name="Likeness Score",
            category=SAMPLE,
            description=(
                "Measures how like the subject of its photographs each picture is, and how well it follows a prompt."
            ),
            is_output_node=True,
            inputs=[
                MetricsType.Input("metrics", tooltip="From Likeness Metrics."),
                io.Image.Input("images", tooltip="Pictures to measure."),
                io.Image.Input(
                    "references",
                    tooltip=(
                        "Photographs of the subject. A picture's identity is its mean similarity to all of them. The "
                        "papers: all photographs, or the one that the method was given."
                    ),
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip=(
                        "What the pictures should show. The papers: with the class word, without the token of a LoRA. "
                        "Neutral: empty, the prompt is not measured."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "The subject in the pictures: identity sees white elsewhere, as JeDi's MDINO and MCLIP-I do. "
                        "Neutral: not connected, whole pictures."
                    ),
                ),
                io.Mask.Input(
                    "reference_mask",
                    optional=True,
                    tooltip="The subject in the references. Neutral: not connected, whole pictures.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "identity",
                    display_name="IDENTITY",
                    is_output_list=True,
                    tooltip="A cosine for each picture; NaN for one with an empty mask.",
                ),
                io.Float.Output(
                    "prompt_score",
                    display_name="PROMPT",
                    is_output_list=True,
                    tooltip="A cosine for each picture; NaN without a prompt.",
                ),
                io.String.Output("text", display_name="TEXT", tooltip="All scores, a line for each picture."),
            ],
            hidden=TELLS,
        )

    @classmethod
    def execute(
        cls,
        metrics: Metrics,
        images: torch.Tensor,
        references: torch.Tensor,
        prompt: str,
        mask: torch.Tensor | None = None,
        reference_mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        told = notices(cls)
        found = scores.score(metrics, images, references, prompt, mask, reference_mask)
        if found.empty:
            told.tell(
                f"the mask of picture {', '.join(map(str, found.empty))} is empty, so that it has no identity; check "
                "mask."
            )
        return output(told, found.identity, found.prompt, found.text, shown=ui.PreviewText(found.text))


class LikenessKeepBest(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessKeepBest",
            display_name="Keep the Best",
            category=SAMPLE,
            description="Keeps the pictures of the highest scores, from the best on, and says which they are.",
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="Pictures, as one batch or as a list."),
                io.Float.Input(
                    "scores",
                    force_input=True,
                    tooltip=(
                        "A number for each picture, higher is better: from Likeness Score, or from any other node. No "
                        "neutral value."
                    ),
                ),
                io.Int.Input(
                    "keep",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Number of pictures to keep. Neutral: all of them, which sorts the pictures.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latents of the same pictures, for a second pass. Neutral: not connected.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="IMAGE", tooltip="The best pictures."),
                io.Latent.Output(
                    "latent",
                    display_name="LATENT",
                    tooltip="Their latents, which keep the numbers of their noises; needs the input latent.",
                ),
                io.Int.Output(
                    "numbers",
                    display_name="NUMBERS",
                    is_output_list=True,
                    tooltip="Their places among all pictures, from 1.",
                ),
                io.String.Output("text", display_name="TEXT", tooltip="Which pictures were kept, and their scores."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: list[torch.Tensor],
        scores: list[float],
        keep: list[int],
        latent: list[dict[str, Any]] | None = None,
    ) -> io.NodeOutput:
        kept = best.keep_best(images, scores, keep[0], latent or ())
        missing = f"{best.NODE}: expected a latent for the output LATENT, got none; connect latent."
        shown = {**ui.PreviewImage(kept.images, cls=cls).as_dict(), "text": (kept.text,)}
        made: Any = ExecutionBlocker(missing) if kept.latent is None else kept.latent
        return io.NodeOutput(kept.images, made, kept.numbers, kept.text, ui=shown)
