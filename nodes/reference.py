"""Reference pictures: made from an IMAGE, saved with their features, and loaded."""

from __future__ import annotations

from ..patching.features import reference_file
from ..patching.features.pictures import references
from ..patching.features.references import (
    INVERSION_STEPS,
    INVERTED,
    NOISED,
    OWN_SIZE,
    TRAINING_SIZE,
    References,
)
from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.subject.borrowing import pictures_of
from ..patching.subject.sockets import SOCKET, check_no_mask, tell_unused
from ..patching.subject.subject import Subject
from ._api import (
    FILES,
    FIXED,
    SUBJECT,
    TELLS,
    LoadFile,
    ReferenceType,
    SubjectPromptType,
    SubjectType,
    inversion_steps_input,
    io,
    notices,
    output,
    schema,
    size_input,
    ui,
)
from ._sampling import seed_input
from ._validate import check, linked, valid

NODE = "Reference Picture"


class LikenessReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessReference",
            display_name="Reference Picture",
            category=SUBJECT,
            description=(
                "A picture of the subject that other nodes borrow features from, with a neutral prompt, an optional "
                "mask and a weight."
            ),
            inputs=[
                io.MultiType.Input(
                    "image",
                    [io.Image, SubjectType],
                    tooltip=(
                        "The subject's picture, of any size; every picture of a batch is a reference. Or a SUBJECT, "
                        "whose photographs, masks, size and inversion_steps count in place of this node's."
                    ),
                ),
                io.Vae.Input("vae", tooltip="The model's VAE."),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip=("A neutral prompt that names the subject and nothing else: 'a photo of a sks dog'."),
                ),
                io.Combo.Input(
                    "source",
                    options=[INVERTED, NOISED],
                    default=INVERTED,
                    tooltip=(
                        "How the picture is brought to each noise level. inverted: DDIM inversion, the paper's way, "
                        "once per model. noised: fresh noise on the picture, without any call."
                    ),
                ),
                seed_input("The seed of the noise of source noised; unused otherwise.", **FIXED),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.01,
                    max=10.0,
                    step=0.01,
                    tooltip=(
                        "How strongly the target attends to this reference: against other references, and with "
                        "attention append also against the target's own tokens. A single reference that replaces them "
                        "has no share to change. Neutral: 1, as in the paper."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The subject in the picture; only its features are borrowed. Neutral: not connected.",
                ),
                ReferenceType.Input(
                    "more", optional=True, tooltip="References to put before this one, to use several pictures."
                ),
                size_input(),
                inversion_steps_input(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "The model whose attention finds a SUBJECT in its photographs. Neutral: not connected, for an "
                        "IMAGE, or where the subject has masks or shall be the whole picture."
                    ),
                ),
                SubjectPromptType.Input(
                    "subject_prompt",
                    optional=True,
                    tooltip=(
                        "From Subject Prompt: its words find a SUBJECT in its photographs. Neutral: not connected, as "
                        "model."
                    ),
                ),
            ],
            outputs=[
                ReferenceType.Output("reference", display_name="REFERENCE", tooltip="The picture, or all of them.")
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, input_types=None) -> bool | str:
        types = input_types or {}
        return valid(
            check(linked, cls, types), check(check_no_mask, types.get("image") == SOCKET, "mask" in types, NODE)
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        image,
        vae,
        conditioning,
        source,
        seed,
        weight,
        mask=None,
        more=None,
        size=TRAINING_SIZE,
        inversion_steps=INVERSION_STEPS,
        model=None,
        subject_prompt=None,
    ) -> io.NodeOutput:
        told = notices(cls)
        check_no_mask(isinstance(image, Subject), mask is not None, NODE)
        if isinstance(image, Subject):
            made = pictures_of(
                image,
                vae,
                conditioning,
                model=model,
                prompt=subject_prompt,
                source=source,
                seed=seed,
                weight=weight,
                node=NODE,
                notices=told,
            )
        else:
            made = references(
                image,
                vae,
                conditioning,
                source,
                seed=seed,
                mask=mask,
                weight=weight,
                node=NODE,
                fits=size != OWN_SIZE,
                inversion_steps=inversion_steps,
                notices=told,
            )
        if not (isinstance(image, Subject) and image.searched):
            why = "nothing has to be found in the picture" if isinstance(image, Subject) else "image is no SUBJECT"
            tell_unused(told, why, model=model, subject_prompt=subject_prompt)
        return output(told, made if more is None else References((*more.items, *made.items)))


class LikenessSaveReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSaveReference",
            display_name="Save Reference",
            category=FILES,
            description=(
                "Computes a reference's features for a model and a schedule and saves them in ComfyUI's output folder."
            ),
            is_output_node=True,
            inputs=[
                ReferenceType.Input("reference", tooltip="The pictures, from Reference Picture."),
                io.Model.Input(
                    "model", tooltip="The model of the later runs; features of other weights are never used."
                ),
                io.Sigmas.Input(
                    "sigmas", tooltip="The noise levels to keep: those of the sampler, from Basic Scheduler."
                ),
                io.String.Input(
                    "blocks",
                    display_name="Where to read (blocks)",
                    default="paper",
                    tooltip=(
                        "Blocks whose features are kept, the same as in Reference Retouch, whose default is "
                        "paper. There is no neutral value."
                    ),
                ),
                io.String.Input(
                    "filename_prefix", default="reference", tooltip="The file's name, below output/likeness."
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip=(
                        "The sampler's negative prompt, for the unconditional half of the features. Neutral: not "
                        "connected, the first run computes that half."
                    ),
                ),
            ],
            outputs=[
                ReferenceType.Output(
                    "reference", display_name="REFERENCE", tooltip="The same pictures, with their features."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, blocks=None, filename_prefix=None) -> bool | str:
        return valid(
            check(check_names, blocks, reference_file.SAVE, paper=True, needed=True),
            check(reference_file.STORE.check_prefix, filename_prefix),
        )

    @classmethod
    @leaving_nothing()
    def execute(cls, reference, model, sigmas, blocks, filename_prefix, negative=None) -> io.NodeOutput:
        filled = reference_file.fill(reference, model, sigmas, blocks, negative)
        path = reference_file.save(filled, filename_prefix)
        return io.NodeOutput(filled, ui=ui.PreviewText(f"{path.name}\n{filled}"))


class LikenessLoadReference(LoadFile):
    store = reference_file.STORE

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadReference",
            display_name="Load Reference",
            category=FILES,
            description="Loads a reference that Save Reference wrote: pictures, prompt, mask and features.",
            inputs=[cls.file_input()],
            outputs=[
                ReferenceType.Output(
                    "reference", display_name="REFERENCE", tooltip="The pictures, with their features."
                )
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(reference_file.load(file))
