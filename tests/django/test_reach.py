"""Which modules the name of a task in a row may lead to."""

from __future__ import annotations

import sys

import pytest

from procrastinate.adapters.django.task_backend.reach import exists, is_within_reach


@pytest.mark.parametrize("path", ["tests.django.shop.framework_tasks", "tests.django.shop.not_there", "json"])
def test_modules_of_the_project_and_loaded_ones_are_within_reach(path: str) -> None:
    assert is_within_reach(path)


@pytest.mark.parametrize(
    "path",
    [
        "unittest.__main__",
        "antigravity",
        "this",
        "idlelib.idle",
        "tests.django.shop.__main__",
        "tests.django.shop.management.commands.anything",
        "tests.django.shopping",
        "",
    ],
)
def test_other_modules_are_not_imported_for_the_name_of_a_task(path: str) -> None:
    assert path not in sys.modules
    assert not is_within_reach(path)


@pytest.mark.parametrize(
    ("path", "is_there"),
    [
        ("tests.django.shop.tasks", True),
        ("idlelib.idle", True),
        ("wsgiref.simple_server.more", False),
        ("antigravity", True),
        ("tests.django.shop.not_there", False),
        ("not_there.at_all", False),
        ("tests.django.shop.tasks.more", False),
        ("tests..shop", False),
    ],
)
def test_a_module_is_found_without_its_import(path: str, is_there: bool) -> None:
    before = set(sys.modules)
    assert exists(path) is is_there
    assert set(sys.modules) == before
