"""Puts a checkpoint, photographs and a LoRA of your own into the graphs of the help pages' pictures."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..demo.launcher.serve import has_gpu
from ..demo.own import command
from ..demo.own.checkpoint import Checkpoint, open_checkpoint
from ..demo.own.lora import check_lora
from ..demo.own.photos import photos_in
from .help_panels import Picture

DEMO_ONLY = (
    *("jedi", "demo_model", "demo_subject", "demo_transformer", "correspondence", "keep_best", "same_subject"),
    *("load_joint_checkpoint", "save_template", "use_saved_template"),
)
"""Workflows about the demo's own models or subjects, or with its judge."""
DEMO_NOUN = "fish"
DEMO_BLOCKS = ("demo", "output2-5", "output3", "output3-4", "output4, output5")
"""Blocks that were chosen for the demo's network."""
PERSONAL, REFERENCES, TEXT, PLAIN, NEUTRAL, WORD = range(6)
"""Outputs of Demo Subject."""


@dataclass
class Own:
    """The files of the user, and the graphs that load them."""

    options: argparse.Namespace
    checkpoint: Checkpoint
    photos: list[Path]
    cpu: bool
    placed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Own:
        """Checks the files. Raises Problem for what cannot be used."""
        checkpoint = open_checkpoint(options.checkpoint)
        if options.lora:
            check_lora(options.lora, checkpoint)
        photos = photos_in(options.photos)[:4]
        return cls(options, checkpoint, photos, not has_gpu(), [f"photo_{i}.png" for i in range(len(photos))])

    def files(self) -> list[Path]:
        return [self.options.checkpoint, *self.photos, *([self.options.lora] if self.options.lora else [])]

    def draws(self, picture: Picture) -> bool:
        """True where no panel is about the demo's models or read from a file in their shapes."""
        return not any(panel.workflow in DEMO_ONLY or panel.part for panel in picture.panels)

    def setup(self, base: Path) -> tuple[str, ...]:
        arguments = command.setup(self.options)(base)
        command.place_photos(self.photos, base / "input", self.checkpoint.family.side)
        return arguments

    def change(self, prompt: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """The prompt with the user's files in place of the demo's model and subject."""
        made = {number: {**node, "inputs": dict(node["inputs"])} for number, node in prompt.items()}
        replaced: dict[str, dict[int, Any]] = {}
        for number, node in prompt.items():
            if node["class_type"] == "LikenessDemoModel":
                name = self.options.checkpoint.name
                made[number] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}}
            elif node["class_type"] == "LikenessDemoSubject":
                del made[number]
                replaced[number] = self.subject(number, node["inputs"], made)
        for node in made.values():
            self.fit(node, replaced)
        return made

    def subject(self, number: str, inputs: dict[str, Any], made: dict[str, Any]) -> dict[int, Any]:
        """Adds loaders of photographs and LoRA; returns what stands for each output of Demo Subject."""
        loaded = []
        for index, file in enumerate(self.placed):
            made[f"{number}.{index}"] = {"class_type": "LoadImage", "inputs": {"image": file}}
            loaded.append([f"{number}.{index}", 0])
        references = loaded[0]
        for index, photo in enumerate(loaded[1:]):
            joined = {"image1": references, "image2": photo}
            made[f"{number}.all{index}"] = {"class_type": "ImageBatch", "inputs": joined}
            references = [f"{number}.all{index}", 0]
        model, noun, scene = inputs["model"], self.options.subject, inputs["scene"]
        if self.options.lora:
            lora = {"lora_name": self.options.lora.name, "strength_model": inputs["strength"], "model": model}
            made[f"{number}.lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": lora}
            model = [f"{number}.lora", 0]
        token = self.options.token or noun
        token = token if noun in token.split() else f"{token} {noun}"  # one word is looked up in every text
        text, plain = (f"a photo of a {words} {scene}".strip() for words in (token, noun))
        return {
            PERSONAL: model,
            REFERENCES: references,
            TEXT: text,
            PLAIN: plain,
            NEUTRAL: f"a photo of a {token}",
            WORD: noun,
        }

    def fit(self, node: dict[str, Any], replaced: dict[str, dict[int, Any]]) -> None:
        """Changes links, sizes, words and blocks of a node to those of the user's files."""
        inputs, noun = node["inputs"], self.options.subject
        for name, value in inputs.items():
            if isinstance(value, list) and value[0] in replaced:
                inputs[name] = replaced[value[0]][value[1]]
            elif isinstance(value, str):
                reads_maps = name == "layout_blocks" or node["class_type"] == "LikenessAttentionMaps"
                usual = "all" if reads_maps else "paper"
                inputs[name] = usual if value in DEMO_BLOCKS else value.replace(DEMO_NOUN, noun)
        if node["class_type"] == "LikenessSubjectPrompt":
            inputs["token"] = self.options.token if self.options.lora else ""
        if node["class_type"] == "EmptyLatentImage":
            inputs["width"] = inputs["height"] = self.checkpoint.family.side
