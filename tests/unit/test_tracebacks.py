"""Exceptions as they are kept: bounded, without the frames of the queue, whatever they are made of."""

from __future__ import annotations

import pytest

from procrastinate import middleware
from procrastinate._text.tracebacks import LARGEST_MESSAGE, LARGEST_TRACEBACK, describe, without_machinery


def raised(call: object) -> BaseException:
    """What the call raises."""
    try:
        call()  # type: ignore[operator]
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def fail_deeply(depth: int) -> None:
    if depth:
        fail_deeply(depth - 1)
    raise ValueError("x" * 100_000)


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    kept = describe(raised(lambda: fail_deeply(3)))
    assert kept.traceback.startswith("Traceback (most recent call last):\n")
    assert "bytes are left out" in kept.traceback
    assert kept.traceback.endswith("xxx\n")
    assert len(kept.traceback.encode()) == LARGEST_TRACEBACK
    assert len(kept.message.encode()) == LARGEST_MESSAGE


def test_the_bound_is_one_of_bytes() -> None:
    def fail() -> None:
        raise ValueError("€" * 50_000)

    kept = describe(raised(fail))
    assert LARGEST_MESSAGE - 8 <= len(kept.message.encode()) <= LARGEST_MESSAGE


def test_what_postgresql_cannot_store_is_written_out() -> None:
    def fail() -> None:
        raise ValueError("\0 and \ud800")

    assert describe(raised(fail)).message == r"\x00 and \ud800"


def test_endless_recursion_is_short() -> None:
    def recurse() -> None:
        recurse()

    kept = describe(raised(recurse))
    assert kept.exception_class == "builtins.RecursionError"
    assert "more times" in kept.traceback
    assert len(kept.traceback) < 2000


def test_the_members_of_a_group_are_there() -> None:
    def fail() -> None:
        raise ExceptionGroup("many", [ValueError("one"), KeyError("two")])

    kept = describe(raised(fail))
    assert "ValueError: one" in kept.traceback
    assert "KeyError: 'two'" in kept.traceback


def test_a_chain_that_bites_its_tail_has_an_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    kept = describe(first)
    assert "first" in kept.traceback
    assert "second" in kept.traceback


def test_an_exception_that_nothing_can_be_made_of_is_named() -> None:
    class Evil(Exception):
        @property
        def __notes__(self) -> list[str]:
            raise SystemError

        def __str__(self) -> str:
            raise KeyError

    kept = describe(raised(lambda: (_ for _ in ()).throw(Evil())))
    assert kept.exception_class.endswith("Evil")
    assert kept.message == "<str() of the exception has raised KeyError>"
    assert kept.traceback


def test_frames_of_the_queue_go_from_the_front() -> None:
    error = raised(lambda: middleware.check_callable([1], argument="a"))
    assert error.__traceback__ is not None
    assert without_machinery(error.__traceback__) is error.__traceback__
    assert without_machinery(error.__traceback__.tb_next.tb_next) is None  # type: ignore[union-attr]
    assert without_machinery(None) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_all_exceptions_are_described(error: BaseException) -> None:
    assert describe(error).exception_class == f"builtins.{type(error).__name__}"
