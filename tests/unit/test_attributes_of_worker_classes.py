"""A class of the worker has few attributes and takes few callbacks, so that a reader can keep its state in mind."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import procrastinate.worker

_FOLDER = pathlib.Path(procrastinate.worker.__file__).parent
_MOST = 12
_LARGER = {
    "WorkerOptions": "the options of a worker, one each",
    "WorkerSettings": "the options of a worker, checked, one each",
}
"""Classes that have more, with what they hold: a user may set each option on its own."""


def _classes() -> Iterator[ast.ClassDef]:
    for file in sorted(_FOLDER.rglob("*.py")):
        yield from (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef))


def _attributes(one: ast.ClassDef) -> set[str]:
    """Return the names that the class declares, or assigns to ``self``."""
    declared = {
        node.target.id for node in one.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assigned = {
        node.attr
        for node in ast.walk(one)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return declared | assigned


def test_a_class_of_the_worker_has_at_most_twelve_attributes() -> None:
    assert {one.name for one in _classes() if len(_attributes(one)) > _MOST} == _LARGER.keys()


def _callbacks(one: ast.ClassDef) -> Iterator[str]:
    """Yield the parameters of a class that are functions. A clock is none: only tests give another than the usual."""
    for function in one.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            for parameter in (*function.args.args, *function.args.kwonlyargs):
                kind = "" if parameter.annotation is None else ast.unparse(parameter.annotation)
                if "Callable" in kind and parameter.arg != "clock":
                    yield f"{one.name}.{parameter.arg}"


def test_the_classes_of_the_worker_take_at_most_eight_callbacks() -> None:
    callbacks = [callback for one in _classes() for callback in _callbacks(one)]
    assert len(callbacks) <= 8, callbacks
