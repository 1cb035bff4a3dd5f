"""Captions by BLIP-2 from a local folder (JeDi, arXiv 2407.06187, Algorithm 1, line 8)."""

from __future__ import annotations

import io
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...demo.launcher.files import Problem
from ...patching.evaluation import loading
from ...patching.host.files import brief

LENGTH = 40
"""Most tokens of a caption."""


class Blip2:
    """BLIP-2 behind the interface of a language model (JeDi, arXiv 2407.06187, Algorithm 1, line 8)."""

    def __init__(self, folder: Path, device: str = "cpu"):
        self.folder, self.device, self._one = folder, device, threading.Lock()

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Network and processor, from local files alone."""
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        kind = torch.float16 if self.device == "cuda" else torch.float32
        try:
            loading.check_config(self.folder)
            processor = Blip2Processor.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
            loaded: Any = Blip2ForConditionalGeneration.from_pretrained(self.folder, dtype=kind, **loading.OPTIONS)
            network, said = loaded
        except Exception as error:  # transformers and the readers of foreign bytes raise nothing narrower
            raise Problem(
                f"Expected BLIP-2 in {self.folder}, got files that cannot be loaded ({brief(error)}): put those of "
                "huggingface.co/Salesforce/blip2-opt-2.7b there (15 GB, MIT)."
            ) from error
        if said["missing_keys"]:
            raise Problem(f"Expected the whole BLIP-2 in {self.folder}, got one without {min(said['missing_keys'])}.")
        return network.to(self.device), processor

    @torch.inference_mode()
    def answer(self, text: str, seed: int, picture: bytes | None = None) -> str:
        """Caption of a picture. BLIP-2 describes it without a question, and without randomness."""
        if picture is None:
            raise Problem("BLIP-2 captions pictures and answers no text: name another model for prompts.")
        with self._one:
            network, processor = self._parts
            asked = processor(images=Image.open(io.BytesIO(picture)).convert("RGB"), return_tensors="pt")
            asked = {name: value.to(self.device) for name, value in asked.items()}
            asked["pixel_values"] = asked["pixel_values"].to(network.dtype)
            written = network.generate(**asked, do_sample=False, max_new_tokens=LENGTH)
            return processor.batch_decode(written, skip_special_tokens=True)[0].strip()
