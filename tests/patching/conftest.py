"""Fixtures over tiny_models: `family` runs a test once per U-Net shape, `model` is a fresh MODEL of that shape."""

from __future__ import annotations

import pytest
from likeness.tests.patching import tiny_models


@pytest.fixture(params=tiny_models.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(family: str):
    return tiny_models.tiny_model(family)
