"""A frozen program has the package as compiled code alone: in files, or in its own executable and without files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import marshal
import pathlib
import types

import psycopg
import pytest

import procrastinate
from tests.database import libpq_url
from tests.worker.test_without_metadata import run_program, statuses

ROOT = pathlib.Path(procrastinate.__file__).parents[1]

IMPORTER = """
import importlib.abc
import importlib.machinery
import marshal
import sys

CODE = marshal.load(open("code.bin", "rb"))


class Importer(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def find_spec(self, name, path=None, target=None):
        if name not in CODE:
            return None
        spec = importlib.machinery.ModuleSpec(name, self, is_package=CODE[name][0])
        if CODE[name][0]:
            spec.submodule_search_locations.append("/frozen/" + name.replace(".", "/"))
        return spec

    def get_code(self, name):
        return CODE[name][1]

    def get_source(self, name):
        return None

    def exec_module(self, module):
        exec(CODE[module.__name__][1], module.__dict__)


class Lister:
    def __init__(self, path):
        if not path.startswith("/frozen/"):
            raise ImportError
        self.start = path.removeprefix("/frozen/").replace("/", ".") + "."

    def iter_modules(self, prefix=""):
        names = {name.removeprefix(self.start): name for name in CODE if name.startswith(self.start)}
        return [(prefix + short, CODE[name][0]) for short, name in names.items() if "." not in short]


sys.path_hooks.insert(0, Lister)
sys.meta_path.insert(0, Importer())
"""

PROGRAM = """
import pathlib
import sys
import procrastinate
from procrastinate.cli import main

_, action, url = sys.argv
app = procrastinate.App(connector=url)
blueprint = procrastinate.Blueprint()


@blueprint.task(name="fail", retry=1)
def fail():
    raise ValueError


app.add_tasks_from(blueprint, namespace="shop")
app.task(name="work")(lambda: None)
if action == "defer":
    with app.open():
        app.schema_manager.apply_schema()
        assert len(list(pathlib.Path(app.schema_manager.get_migrations_path()).glob("p0*.py*"))) > 20
        app.tasks["shop:fail"].defer()
    assert main(["--app=__main__.app", "defer", "work"]) == 0
    assert main(["--app=__main__.app", "schema", "--read"]) == 0
    print("-- file:", getattr(procrastinate, "__file__", None))
else:  # each process of the worker runs the program again
    raise SystemExit(main(["--app=__main__.app", "worker", "--one-shot", "--processes=2"]))
"""


def compiled_modules() -> dict[str, tuple[bool, types.CodeType]]:
    """Return the modules of the package by name: whether each is a package, and its code."""
    modules = {}
    for path in sorted((ROOT / "procrastinate").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        code = importlib.machinery.SourceFileLoader(name, str(path)).get_code(name)
        assert code is not None
        modules[name] = parts[-1] == "__init__", code
    return modules


@pytest.fixture(scope="module")
def code() -> dict[str, tuple[bool, types.CodeType]]:
    return compiled_modules()


def run(url: str, folder: pathlib.Path, file: str, **environment: str) -> None:
    """Apply the schema and run jobs in two processes. The tracebacks of the jobs begin at the task."""
    done = run_program(None, url, folder, "program.py", "defer", **environment)
    assert done.stdout.splitlines()[-1:] == [f"-- file: {file}"], done.stderr
    done = run_program(None, url, folder, "program.py", "work", **environment)
    assert (done.returncode, sorted(statuses(url))) == (0, ["failed", "succeeded"]), done.stderr
    with psycopg.connect(libpq_url(url)) as connection:
        tracebacks = connection.execute("SELECT traceback FROM procrastinate_errors").fetchall()
    assert len(tracebacks) == 2
    assert all("in fail" in text.splitlines()[1] for (text,) in tracebacks), tracebacks


def test_a_package_of_compiled_files_applies_its_schema_and_runs_jobs(
    empty_database_url: str, tmp_path: pathlib.Path, code: dict[str, tuple[bool, types.CodeType]]
) -> None:
    for name, (is_package, compiled) in code.items():
        path = tmp_path.joinpath(*name.split("."), *(["__init__"] if is_package else [])).with_suffix(".pyc")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(compiled))
    (tmp_path / "program.py").write_text(PROGRAM)
    run(empty_database_url, tmp_path, f"{tmp_path}/procrastinate/__init__.pyc", PYTHONPATH=str(tmp_path))


def test_a_package_without_files_applies_its_schema_and_runs_jobs(
    empty_database_url: str, tmp_path: pathlib.Path, code: dict[str, tuple[bool, types.CodeType]]
) -> None:
    """Its modules have no ``__file__``, as some tools make them."""
    (tmp_path / "code.bin").write_bytes(marshal.dumps(code))
    (tmp_path / "program.py").write_text(IMPORTER + PROGRAM)
    run(empty_database_url, tmp_path, "None")
