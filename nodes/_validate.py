"""Checks of widgets before anything runs, whose sentence the graph editor shows on the node.

The host gives `validate_inputs` the values of widgets alone. An input that is linked is absent, and its check is
repeated when the node is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from comfy_api.latest import io
from comfy_execution.validation import validate_node_input


def check(function: Callable[..., object], *args: Any, **kwargs: Any) -> partial:
    """A check for `valid`, of values that may be None."""
    return partial(function, *args, **kwargs)


def valid(*checks: partial) -> bool | str:
    """True, or the sentence of the first check that raises one. A check with an argument None is left out."""
    for one in checks:
        if None in one.args:
            continue
        try:
            one()
        except (ValueError, FileNotFoundError) as error:
            return str(error)
    return True


def in_range(node: type[io.ComfyNode], **values: float | None) -> None:
    """Raises ValueError for a number outside its widget's range, which the host leaves to `validate_inputs`."""
    for widget in node.define_schema().inputs:
        value = values.get(widget.id)
        if isinstance(widget, io.Int.Input | io.Float.Input) and value is not None:
            low, high = widget.min, widget.max
            if (low is not None and value < low) or (high is not None and value > high):
                raise ValueError(
                    f"{title_of(node)}: expected {widget.id} from {low} to {high}, got {value}; change {widget.id}."
                )


def in_options(node: type[io.ComfyNode], **values: str | None) -> None:
    """Raises ValueError for a choice that its widget does not offer, which the host leaves to `validate_inputs`."""
    for widget in node.define_schema().inputs:
        value = values.get(widget.id)
        if isinstance(widget, io.Combo.Input) and value is not None and value not in (widget.options or ()):
            raise ValueError(
                f"{title_of(node)}: expected {widget.id} among {', '.join(map(str, widget.options or ()))}, got "
                f"{value}; change {widget.id}."
            )


def linked(node: type[io.ComfyNode], types: Mapping[str, Any]) -> None:
    """Raises ValueError for a link of another type, which the host leaves to nodes that ask for `input_types`."""
    for socket in node.define_schema().inputs:
        grown = socket.template.get_all() if isinstance(socket, io.Autogrow.Input) else ()
        for name, kind in ((socket.id, socket), *((f"{socket.id}.{one.id}", one) for one in grown)):
            got = types.get(name)
            if got is not None and not validate_node_input(got, kind.get_io_type()):
                raise ValueError(
                    f"{title_of(node)}: expected {kind.get_io_type()} for {name}, got {got}; connect another output."
                )


def title_of(node: type[io.ComfyNode]) -> str:
    """The node's name in sentences: its display name without the paper behind it."""
    return node.define_schema().display_name.partition(" (")[0]
