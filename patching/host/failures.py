"""Runs that leave nothing behind: no patched model, no latent and no feature in an error's frames or in a circle."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterator

_CIRCULAR = ("dpm_fast", "dpm_adaptive")
"""Names of the host's samplers that leave the guider in a circle of references, or beginnings of them."""


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """Clears the local variables of the functions that an error leaves inside this context; also a decorator.

    The host keeps the traceback in a circle of references. The models in it would die together in a garbage collection,
    and the host could not return to the model that they are clones of.
    """
    try:
        yield
    except BaseException as error:
        forget_frames(error)
        raise


def forget_frames(error: BaseException) -> None:
    """Clears the local variables in the tracebacks of an error and of its causes."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__


@contextlib.contextmanager
def without_circles(sampler: str) -> Iterator[None]:
    """Collects what a sampler leaves in a circle of references, while the models in it are still alive outside of it.

    Otherwise they would die together in a later collection, and the host could not return to the model that they are
    clones of.
    """
    try:
        yield
    finally:
        if sampler.startswith(_CIRCULAR):
            gc.collect()
