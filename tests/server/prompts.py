"""What the tests say to the server, and what they expect it to answer."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from likeness.demo.launcher.client import Failed
from PIL import Image

PUBLIC = "Likeness\\w+|StepBlendedSampler|MultiSourceAttnSwap|AdaptiveMask|AppearancePalette|LayoutTemplate|UREMDGuidance|JointImageSampler"


def only(prompt: dict, kind: str) -> dict:
    """The inputs of the workflow's only node of a kind."""
    (found,) = [entry["inputs"] for entry in prompt.values() if entry["class_type"] == kind]
    return found


def failure(client, prompt: dict, *expected: str, sentences: bool = True) -> Failed:
    with pytest.raises(Failed) as caught:
        client.run(prompt)
    said = caught.value.sentence
    for words in expected:
        assert words in said, said
    if sentences:
        assert "\n" not in said and said.endswith("."), said
        assert "expected" in said and ("got" in said or "found" in said), said
        assert re.match(rf"({PUBLIC}): ", said), said
    return caught.value


def pictures(client, result, node: str) -> list[np.ndarray]:
    """The pixels that one node saved or showed; the files themselves hold the workflow, too."""
    return [np.asarray(Image.open(io.BytesIO(client.image(record))).convert("RGB")) for record in result.images(node)]
