"""Parameters of which `run.py test --quick` runs some."""

from collections.abc import Container, Iterable

import pytest


def slow_but(quick: Container, values: Iterable) -> list:
    """The values as parameters, all but those in `quick` marked slow."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
