"""Draws a picture of a subject by the paper's method that suits the models at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from .sampler_checks import (
    check_layout,
    check_method,
    check_models,
    chosen_method,
    is_joint,
    layout_of_run,
    tell_personalized,
)
from .sampler_inputs import NODE, Inputs
from .sampler_methods import GUIDERS
from .sampler_report import Report
from .sampler_settings import JOINT, TITLES

_EXPERTS = (
    *("Two-Model Sampler", "Reference Retouch", "Adaptive Mask", "Segment the Subject", "Reference Picture"),
    *("Appearance Palette", "Layout Template", "Subject Guidance", "Joint Image Sampler", "Attention Maps of a Word"),
)


def draw(inputs: Inputs, method: str) -> tuple[dict, str]:
    """A LATENT, and the report of how it was made.

    method: one of METHODS. Likeness 0 gives KSampler's picture; of a joint checkpoint, a picture without references.
    Raises ValueError in one sentence.
    """
    method, why = chosen_method(inputs, method)
    check_layout(inputs.layout, inputs.mask is not None)
    check_method(method, inputs.layout, inputs.sampler)
    check_models(inputs, method)
    tell_personalized(inputs)
    report = Report(inputs.subject, inputs.lasts)
    report.say(f"Method: {TITLES[method]}, {why}.")
    with _as_this_node():
        if inputs.likeness > 0:
            layout, said = layout_of_run(inputs, method)
            report.say(f"Layout: {said}.")
            guider = GUIDERS[method](replace(inputs, layout=layout), report)
        elif method == JOINT and is_joint(inputs.target):
            guider = GUIDERS[JOINT](inputs, report)
        else:
            report.say("Likeness 0: KSampler's picture.")
            guider = inputs.guider(inputs.target, inputs.positive)
        with report.timing("picture"):
            made = inputs.sample(guider)
    return made, str(report)


@contextlib.contextmanager
def _as_this_node() -> Iterator[None]:
    """Names this node in the errors of the expert nodes' functions, whose nodes are not in the graph."""
    try:
        yield
    except ValueError as error:
        name, colon, said = str(error).partition(": ")
        if colon and name in _EXPERTS:
            raise ValueError(f"{NODE}: as {name}, {said}") from error
        raise
