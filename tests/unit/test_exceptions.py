"""The tree in the docstring is the tree of the classes."""

from __future__ import annotations

import inspect

import pytest

from procrastinate import exceptions
from procrastinate.retry import RetryDecision

CLASSES = {
    name: value
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, exceptions.ProcrastinateException)
}


def drawn_parents() -> dict[str, str | None]:
    """Each class in the drawing, with the one that it hangs from."""
    assert exceptions.__doc__ is not None
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in exceptions.__doc__.splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        if not words.startswith("    "):
            continue
        depth = (len(words) - len(words.lstrip())) // 4 - 1
        name = words.split()[0]
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else None
    return parents


def test_every_class_is_drawn_and_nothing_else() -> None:
    assert set(drawn_parents()) == set(CLASSES)


@pytest.mark.parametrize(("name", "parent"), [(name, parent) for name, parent in drawn_parents().items() if parent])
def test_each_hangs_where_it_is_drawn(name: str, parent: str) -> None:
    assert CLASSES[parent] in CLASSES[name].__bases__


def test_the_other_parents_are_drawn_in_parentheses() -> None:
    assert issubclass(exceptions.InvalidJob, ValueError)
    assert issubclass(exceptions.LoadFromPathError, ImportError)
    assert issubclass(exceptions.TaskTimeout, TimeoutError)
    assert "TaskTimeout (TimeoutError)" in (exceptions.__doc__ or "")
    assert "InvalidJob (ValueError)" in (exceptions.__doc__ or "")
    assert "LoadFromPathError (ImportError)" in (exceptions.__doc__ or "")


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - {"JobRetry"}))
def test_each_says_what_is_wrong_without_being_told(name: str) -> None:
    text = str(CLASSES[name]())
    what = " ".join((CLASSES[name].__doc__ or "").split()).removesuffix(".")
    assert text
    assert text.startswith(what)
    assert text.endswith(CLASSES[name].advice or f"{what}.")
    assert str(CLASSES[name]("In particular")) == "In particular"


def test_a_retry_carries_the_decision() -> None:
    decision = RetryDecision()
    assert exceptions.JobRetry(decision).retry_decision is decision


def test_a_unique_violation_names_the_constraint() -> None:
    error = exceptions.UniqueViolation(constraint_name="one", queueing_lock="two")
    assert (error.constraint_name, error.queueing_lock) == ("one", "two")
