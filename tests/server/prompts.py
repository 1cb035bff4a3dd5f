"""Requests to the server, and checks of its answers."""

from __future__ import annotations

import io
import json
import re
import time

import numpy as np
import pytest
from likeness.demo.launcher.client import Failed, Rejected, Result
from likeness.tests.titles import TITLES
from PIL import Image

PUBLIC = "|".join(TITLES.values())


def only(prompt: dict, kind: str) -> dict:
    """The inputs of the workflow's only node of a kind."""
    (found,) = [entry["inputs"] for entry in prompt.values() if entry["class_type"] == kind]
    return found


def failure(client, prompt: dict, *expected: str, sentences: bool = True) -> str:
    """Runs a prompt that must fail, or be refused before it runs.

    Its message, the result, must contain `expected`, where an id stands for the node's title, and be a sentence of
    one of our nodes.
    """
    with pytest.raises((Failed, Rejected)) as caught:
        client.run(prompt)
    said = refusal(caught.value) if isinstance(caught.value, Rejected) else caught.value.sentence
    for words in expected:
        assert TITLES.get(words, words) in said, said
    if sentences:
        assert "\n" not in said and said.endswith("."), said
        assert "expected" in said and ("got" in said or "found" in said), said
        assert re.match(rf"({PUBLIC}): ", said), said
    return said


def ended(client, prompt_id: str) -> Result:
    """The result of a prompt that somebody else follows."""
    for _ in range(1200):
        if prompt_id in json.loads(client.get(f"/history/{prompt_id}")):
            return client.result(prompt_id)
        time.sleep(0.1)
    raise TimeoutError(prompt_id)


def refusal(rejected: Rejected) -> str:
    """The sentence with which one of our nodes refused its widgets."""
    (sentence,) = (said for found in rejected.errors.values() for said in found)
    return sentence


def pictures(client, result, node: str) -> list[np.ndarray]:
    """Pixels of the pictures that one node saved or showed, without the workflow that the files hold as well."""
    return [np.asarray(Image.open(io.BytesIO(client.image(record))).convert("RGB")) for record in result.images(node)]
