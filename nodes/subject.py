"""LikenessSubject: photographs of one subject, for every method."""

from __future__ import annotations

from ..patching.features.references import INVERSION_STEPS, TRAINING_SIZE
from ..patching.host.blocks import check_names
from ..patching.layout_and_retouch import segment
from ..patching.subject.photographs import IMAGE, MASK, check_numbers, photographs
from ..patching.subject.subject import AREAS, ATTENTION, MOST, NODE, THRESHOLD, Subject
from ._api import (
    ADVANCED,
    SUBJECT,
    TELLS,
    SubjectType,
    inversion_steps_input,
    io,
    notices,
    output,
    schema,
    size_input,
)
from ._validate import check, in_options, in_range, linked, valid


class LikenessSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessSubject",
            display_name="Subject",
            category=SUBJECT,
            description=(
                "One to eight photographs of your subject, of any size. What each method needs of them is made when it "
                "is needed, at the model's training resolution, and kept for the next runs."
            ),
            inputs=[
                io.Autogrow.Input(
                    "images",
                    template=io.Autogrow.TemplatePrefix(io.Image.Input(IMAGE), prefix=IMAGE, min=1, max=MOST),
                    tooltip=(
                        "Photographs of one subject, of any size, and batches of them: 1 to 8 together. No neutral "
                        "value."
                    ),
                ),
                io.Autogrow.Input(
                    "masks",
                    template=io.Autogrow.TemplatePrefix(
                        io.Mask.Input(MASK, optional=True), prefix=MASK, min=0, max=MOST
                    ),
                    optional=True,
                    tooltip=(
                        "The subject in the photograph of the same number, 1 inside. An empty mask counts as none. "
                        "Neutral: not connected, area finds the subject."
                    ),
                ),
                io.String.Input(
                    "word",
                    default="",
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "The words of the prompt that find the subject in the photographs, such as 'dog'. Neutral: "
                        "empty, the words in the braces of Subject Prompt."
                    ),
                ),
                size_input(),
                io.Combo.Input(
                    "area",
                    options=[*AREAS, *segment.checkpoints()],
                    default=ATTENTION,
                    optional=True,
                    tooltip=(
                        "Finds the subject in photographs without a mask. attention: where the model attends to its "
                        "words. whole picture: background included. A file of models/sams: Segment Anything, around "
                        "the peak of that attention. Neutral: whole picture."
                    ),
                ),
                io.Float.Input(
                    "threshold",
                    default=THRESHOLD,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Attention to the words, from 0 to 1, above which a place belongs to the subject. Neutral: 0, "
                        "nearly the whole picture. The paper's value is not known; 0.3 is our default."
                    ),
                ),
                io.String.Input(
                    "map_blocks",
                    default="paper",
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Blocks whose attention to the words finds the subject. paper: the decoder except its finest "
                        "resolution, our reading of the paper, which names no layers. No neutral value."
                    ),
                ),
                inversion_steps_input(),
            ],
            outputs=[
                SubjectType.Output(
                    "subject", display_name="SUBJECT", tooltip="For Likeness Sampler, palettes, references and sets."
                )
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(
        cls,
        images=None,
        masks=None,
        size=None,
        area=None,
        threshold=None,
        map_blocks=None,
        inversion_steps=None,
        input_types=None,
    ) -> bool | str:
        """Checks widgets and sockets when the graph is queued; the host checks that the first photograph is there."""
        return valid(
            check(in_options, cls, size=size, area=area),
            check(in_range, cls, threshold=threshold, inversion_steps=inversion_steps),
            check(check_names, map_blocks, NODE, "map_blocks", paper=True, needed=True),
            check(linked, cls, input_types or {}),
            check(check_numbers, [*(images or ())], [*(masks or ())]),
        )

    @classmethod
    def execute(
        cls,
        images: io.Autogrow.Type,
        masks: io.Autogrow.Type | None = None,
        word: str = "",
        size: str = TRAINING_SIZE,
        area: str = ATTENTION,
        threshold: float = THRESHOLD,
        map_blocks: str = "paper",
        inversion_steps: int = INVERSION_STEPS,
    ) -> io.NodeOutput:
        told = notices(cls)
        subject = Subject(
            photographs(images, masks or {}, told),
            word=word,
            size=size,
            area=area,
            threshold=threshold,
            map_blocks=map_blocks,
            inversion_steps=inversion_steps,
        )
        if area == ATTENTION and subject.unmasked and not segment.checkpoints():
            told.inform(
                "the model's attention to its words finds the subject; with a Segment Anything checkpoint in "
                "models/sams, area could follow its outline more closely."
            )
        return output(told, subject)
