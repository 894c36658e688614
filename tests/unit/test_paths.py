"""Dotted paths."""

from __future__ import annotations

import functools
import importlib.machinery
import pathlib
import subprocess
import sys
import types

import pytest

from procrastinate import exceptions
from procrastinate._functions.import_path import get_full_path, load_from_path

NUMBER = 3


def test_an_object_is_loaded_from_its_path() -> None:
    assert load_from_path("tests.unit.test_paths.NUMBER", int) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "''"),
        ("name", "package.module.name"),
        ("no_such.name", "Cannot import 'no_such'"),
        ("tests.unit.test_paths.missing", "has no 'missing'"),
        ("tests.unit.test_paths.NUMBER", "is of type int, not str"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(path: str, message: str) -> None:
    with pytest.raises(exceptions.LoadFromPathError, match=message) as caught:
        load_from_path(path, str)
    assert isinstance(caught.value, ImportError)


def test_an_error_inside_the_module_is_not_hidden() -> None:
    with pytest.raises(exceptions.LoadFromPathError, match="ZeroDivisionError: division by zero") as caught:
        load_from_path("tests.unit.broken.name", str)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_path_of_a_function() -> None:
    assert get_full_path(get_full_path) == "procrastinate._functions.import_path.get_full_path"


def test_what_has_no_path_is_refused() -> None:
    with pytest.raises(exceptions.FunctionPathError, match="name="):
        get_full_path(functools.partial(get_full_path))


@pytest.mark.parametrize(
    ("file", "spec_name", "path"),
    [
        ("package/program.py", None, "package.program.task"),
        ("/elsewhere/program.py", None, "program.task"),
        ("/elsewhere/package/program.py", "package.program", "package.program.task"),
        (None, None, "__main__.task"),
    ],
)
def test_a_function_of_the_program_itself_is_named_as_others_would_import_it(
    monkeypatch: pytest.MonkeyPatch, file: str | None, spec_name: str | None, path: str
) -> None:
    """Run as a file, as a file elsewhere, with ``-m``, and typed into an interpreter."""
    main = types.ModuleType("__main__")
    main.__spec__ = None if spec_name is None else importlib.machinery.ModuleSpec(spec_name, None)
    if file is not None:
        main.__file__ = str(pathlib.Path.cwd() / file)
    monkeypatch.setitem(sys.modules, "__main__", main)

    def task() -> None: ...

    task.__module__ = "__main__"
    assert get_full_path(task) == path


PROGRAM = """
import multiprocessing
import procrastinate
from procrastinate.testing import InMemoryConnector

app = procrastinate.App(connector=InMemoryConnector())

@app.task
def send(): ...

def name_task(names):
    names.put(send.name)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    names = context.SimpleQueue()
    child = context.Process(target=name_task, args=(names,))
    child.start()
    print(send.name, names.get())
    child.join()
"""


@pytest.mark.parametrize("how", [["shop.py"], ["-m", "shop"]], ids=["as a file", "as a module"])
def test_a_task_of_the_program_has_the_same_name_in_a_process_that_it_spawns(
    tmp_path: pathlib.Path, how: list[str]
) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM, encoding="utf-8")
    ran = subprocess.run([sys.executable, *how], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["shop.send", "shop.send"], ran.stderr
