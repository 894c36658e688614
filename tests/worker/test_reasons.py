"""The table of the 55 reasons names a test for each, and each test is what the table says."""

from __future__ import annotations

import ast
import functools
import pathlib

import pytest

from tests.worker.reasons import REASONS, Shown

ROOT = pathlib.Path(__file__).parents[2]
WORKERS = {"workers", "start", "holding"}
"""Fixtures that run real workers."""

SHOWN = [(number, shown) for number, all_shown in REASONS.items() for shown in all_shown]


@functools.cache
def functions_of(module: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the tests of a module by name."""
    tree = ast.parse((ROOT / module).read_text())
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {one.name: one for one in functions if one.name.startswith("test_")}


def starts_a_worker(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a test runs a real worker."""
    names = {one.id for one in ast.walk(test) if isinstance(one, ast.Name)}
    return bool(WORKERS & {one.arg for one in test.args.args}) or bool({"WorkerThread", "Workers"} & names)


def test_each_of_the_55_reasons_has_a_test() -> None:
    assert list(REASONS) == list(range(1, 56))
    assert all(REASONS.values())


@pytest.mark.parametrize(("number", "shown"), SHOWN, ids=[f"{number}-{one.code}" for number, one in SHOWN])
def test_the_test_of_a_reason_makes_it_with_a_real_worker_and_names_it(number: int, shown: Shown) -> None:
    tests = functions_of(shown.module)
    assert shown.test in tests, f"{number}: {shown.situation}"
    test = tests[shown.test]
    texts = {one.value for one in ast.walk(test) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    assert any(shown.code in text for text in texts), f"The test does not name {shown.code}"
    assert starts_a_worker(test) is not bool(shown.without_worker)
