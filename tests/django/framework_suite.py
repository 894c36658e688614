"""Runs Django's own tests of its Tasks framework on this project's backend, and prints what became of each.

``python -m tests.django.framework_suite DIRECTORY``: the directory ``tests`` of Django's source distribution. Its files
are read as they are; where they name one of Django's two backends, they get one of these.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import pathlib
import sys
import unittest
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any

MODULES = ("test_tasks", "test_dummy_backend", "test_immediate_backend")
STAND_INS = {"dummy.DummyBackend": "Waiting", "immediate.ImmediateBackend": "Draining"}


class StandIns(SourceFileLoader):
    """Reads a file of tests, with Django's backends replaced."""

    def get_data(self, path: str) -> bytes:
        """The source."""
        source = super().get_data(path).decode()
        for name, ours in STAND_INS.items():
            module, django_name = name.split(".")
            source = source.replace(f"django.tasks.backends.{name}", f"tests.django.framework_backends.{ours}")
            source = source.replace(
                f"from django.tasks.backends.{module} import {django_name}",
                f"from tests.django.framework_backends import {ours} as {django_name}",
            )
        return source.encode()

    def path_stats(self, path: str) -> Any:
        """No compiled file is looked for, nor written."""
        raise OSError


class Finder(importlib.abc.MetaPathFinder):
    """Finds the package ``tasks`` of Django's tests."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Of ``tasks`` and what is in it."""
        package, _, name = fullname.partition(".")
        if package != "tasks":
            return None
        file = self._root / "tasks" / f"{name or '__init__'}.py"
        locations = None if name else [str(file.parent)]
        return importlib.util.spec_from_file_location(
            fullname, file, loader=StandIns(fullname, str(file)), submodule_search_locations=locations
        )


class Outcomes(unittest.TestResult):
    """What became of each test: empty, or the traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:
        """It counts as passed until something says otherwise."""
        super().startTest(test)
        self.seen[test.id()] = ""

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        """One that fails is a failure of its test."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.seen[test.id()] += self._exc_info_to_string(err, test)  # type: ignore[attr-defined]

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """An error, also in setting up a class."""
        super().addError(test, err)
        self.seen[test.id()] = self.errors[-1][1]

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """A failure."""
        super().addFailure(test, err)
        self.seen[test.id()] = self.failures[-1][1]


def main(directory: str) -> None:
    """Run them all."""
    import django
    from django.test import SimpleTestCase
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment()
    SimpleTestCase.databases = frozenset({"default"})  # type: ignore[assignment]
    sys.meta_path.insert(0, Finder(pathlib.Path(directory)))
    suite = unittest.defaultTestLoader.loadTestsFromNames([f"tasks.{name}" for name in MODULES])
    outcomes = Outcomes()
    suite.run(outcomes)
    print(json.dumps(outcomes.seen))


if __name__ == "__main__":
    main(sys.argv[1])
