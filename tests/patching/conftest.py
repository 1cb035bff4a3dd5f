"""Fixtures over tiny_models and tiny_dits.

`family` runs a test once per U-Net shape, `model` is a fresh MODEL of that shape; `dit` runs a test once per family of
diffusion transformers.
"""

from __future__ import annotations

import gc

import pytest
import torch
from likeness.tests.patching import tiny_dits, tiny_models


@pytest.fixture(params=tiny_models.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def as_the_host_runs():
    """Runs the test in inference mode, which records no graph."""
    with torch.inference_mode():
        yield


@pytest.fixture
def new_objects_alone():
    """Hides the objects that exist already from `gc.get_objects`, since walking over them all takes seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def model(family: str):
    return tiny_models.tiny_model(family)


@pytest.fixture(params=tiny_dits.DITS)
def dit(request: pytest.FixtureRequest) -> str:
    if tiny_dits.lacks(request.param):
        pytest.skip(f"this ComfyUI has no {request.param}")
    if not tiny_dits.reachable(request.param):
        pytest.skip(f"this ComfyUI does not number the blocks of {request.param}")
    return request.param
