"""Finds calls that wait for a GPU, copy to it or allocate on it, in the source of a module."""

from __future__ import annotations

import ast
from collections.abc import Iterator

READS = {"item", "tolist", "cpu", "cuda", "numpy", "nonzero"}
"""Methods of a tensor that bring its values, or their number, to the host."""
COMPARED = {"equal", "allclose", "count_nonzero", "nonzero", "argwhere"}
"""Functions of torch whose result the host reads."""
COPIED = {"new_tensor"}
"""Methods that copy numbers of Python to the tensor's device."""
MADE = {"tensor", "as_tensor", "full", "arange", "zeros", "ones", "empty", "linspace"}
"""Functions of torch that make a tensor, on a device if one is given."""
REDUCED = {"max", "min", "amax", "amin", "sum", "mean", "nanmean", "norm", "any", "all", "isnan", "prod"}
"""Methods of a tensor whose single number Python reads as a float, an int or a bool."""


def waits(source: str) -> Iterator[tuple[str, int, str]]:
    """Yields (function with its class, line, code) of every such call. Code outside of functions runs once."""
    yield from _inside(ast.parse(source), "")


def _inside(node: ast.AST, name: str) -> Iterator[tuple[str, int, str]]:
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{name}.{child.name}" if name else child.name
        elif name and (isinstance(child, ast.expr) and _waits(child)):
            yield name, child.lineno, ast.unparse(child)
        for test in _tests(child) if name else ():
            yield name, test.lineno, ast.unparse(test)
        yield from _inside(child, inner)


def _waits(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        # PyTorch makes a tensor of a list of rows and copies it to the device.
        return isinstance(node.slice, ast.List | ast.ListComp) or _called(node.slice) == ("", "list")
    if not isinstance(node, ast.Call):
        return False
    of, called = _called(node)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if of == "torch":
        return called in COMPARED or (called in MADE and "device" in given)
    if of == "":
        return called in ("float", "int", "bool") and bool(node.args) and _reduced(node.args[0])
    if called == "to":
        free = given.get("non_blocking")
        return not (isinstance(free, ast.expr) and not _is(free, False)) and not all(map(_is_type, node.args))
    return called in READS | COPIED


def _tests(node: ast.AST) -> list[ast.expr]:
    """Tensors that a node reads as true or false."""
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
        tests = [node.test]
    elif isinstance(node, ast.BoolOp):
        tests = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        tests = [node.operand]
    else:
        return []
    return [test for test in tests if _reduced(test) and not isinstance(test, ast.Subscript)]


def _reduced(node: ast.expr) -> bool:
    """True for the number that a tensor was reduced to, as far as code shows it."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id in ("t", "timestep")
    of, called = _called(node)
    return isinstance(node, ast.Call) and of not in ("", "math", "np") and called in REDUCED


def _called(node: ast.AST) -> tuple[str, str]:
    """(object, function) of a call: ("torch", "full"), ("", "float"), ("?", "item")."""
    if not isinstance(node, ast.Call):
        return "?", ""
    if isinstance(node.func, ast.Name):
        return "", node.func.id
    if isinstance(node.func, ast.Attribute):
        return node.func.value.id if isinstance(node.func.value, ast.Name) else "?", node.func.attr
    return "?", ""


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _is_type(node: ast.expr) -> bool:
    """True for a type of numbers: x.dtype, torch.float32, dtype."""
    if isinstance(node, ast.Attribute):
        numbers = node.attr.removeprefix("u").startswith(("float", "int", "bfloat", "bool"))
        return node.attr == "dtype" or (numbers and isinstance(node.value, ast.Name) and node.value.id == "torch")
    return isinstance(node, ast.Name) and node.id == "dtype"
