"""Modules that are imported, reloaded or run again declare their tasks again."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import logging
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procrastinate import Limit, exceptions
from procrastinate.from_celery import app as celery_app

Module = Callable[[str], str]

_APP = """
from procrastinate import App
from procrastinate.testing import InMemoryConnector
app = App(connector=InMemoryConnector())
"""
_TASKS = """
from declared_app import app

@app.periodic(cron="0 8 * * *")
@app.task(name="morning", aliases=["dawn"])
def morning(timestamp): return {value}
"""


class Project:
    """Modules in a folder that Python imports from."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    def reload(self, name: str, text: str) -> Any:
        """The module, reloaded with another text."""
        self.write(name, text)
        module = sys.modules[name]
        pathlib.Path(importlib.util.cache_from_source(f"{self.folder / name}.py")).unlink(missing_ok=True)
        return importlib.reload(module)

    @property
    def app(self) -> Any:
        return importlib.import_module("declared_app").app


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    project = Project(tmp_path)
    project.write("declared_app", _APP)
    yield project
    for name in [name for name in sys.modules if name.startswith("declared_")]:
        del sys.modules[name]


def test_a_module_that_fails_halfway_fails_with_the_same_error_again(project: Project) -> None:
    project.write("declared_tasks", _TASKS.format(value=1) + "import not_installed_here")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_installed_here"):
            importlib.import_module("declared_tasks")


@pytest.mark.parametrize("before", ["", "\n\nx = 1\n"], ids=["on the same lines", "further down"])
def test_a_reload_replaces_a_task_with_its_names_and_schedule(
    project: Project, caplog: pytest.LogCaptureFixture, before: str
) -> None:
    project.write("declared_tasks", _TASKS.format(value=1))
    importlib.import_module("declared_tasks")
    with caplog.at_level(logging.WARNING, "procrastinate.blueprints"):
        project.reload("declared_tasks", before + _TASKS.format(value=2))
    app = project.app
    assert app.tasks["morning"] is app.tasks["dawn"]
    assert app.tasks["morning"](0) == 2
    (schedule,) = app.periodic_registry.periodic_tasks.values()
    assert schedule.task is app.tasks["morning"]
    assert [record.action for record in caplog.records] == ["task_declared_again"]  # type: ignore[attr-defined]


def test_a_reload_without_an_alias_and_a_schedule_removes_them(project: Project) -> None:
    project.write("declared_tasks", _TASKS.format(value=1))
    importlib.import_module("declared_tasks")
    project.reload(
        "declared_tasks", "from declared_app import app\n@app.task(name='morning')\ndef morning(timestamp): ..."
    )
    assert "dawn" not in project.app.tasks
    assert project.app.periodic_registry.periodic_tasks == {}


def test_a_blueprint_whose_module_is_reloaded_is_taken_in_again(project: Project) -> None:
    text = """
from declared_app import app
from procrastinate import Blueprint
blueprint = Blueprint()
@blueprint.periodic(cron="0 8 * * *")
@blueprint.task(name="morning")
def morning(timestamp): ...
app.add_tasks_from(blueprint, namespace="shop")
"""
    project.write("declared_tasks", text)
    importlib.import_module("declared_tasks")
    module = project.reload("declared_tasks", text)
    assert project.app.tasks["shop:morning"] is module.morning
    assert list(project.app.periodic_registry.periodic_tasks) == [("shop:morning", "")]


def test_a_module_that_only_schedules_a_task_may_be_reloaded(project: Project) -> None:
    project.write("declared_tasks", "from declared_app import app\n@app.task\ndef tick(timestamp): ...")
    text = "from declared_app import app\nfrom declared_tasks import tick\napp.periodic(cron='* * * * *')(tick)"
    project.write("declared_schedule", text)
    importlib.import_module("declared_schedule")
    project.reload("declared_schedule", text)
    assert len(project.app.periodic_registry.periodic_tasks) == 1
    project.reload("declared_schedule", text.replace("* * * * *", "5 * * * *"))
    (schedule,) = project.app.periodic_registry.periodic_tasks.values()
    assert schedule.cron == "5 * * * *"
    with pytest.raises(exceptions.TaskAlreadyRegistered, match=r"periodic_id=.*declared_schedule"):
        project.reload("declared_schedule", f"{text}\napp.periodic(cron='7 * * * *')(tick)")


_LIBRARY = """
def plain(n): return n
def bare(function):
    def wrapper(n): return function(n)
    return wrapper
class Sender:
    def __call__(self, n): return n
    def send(self, n): return n
def declare(app, function): return app.task(name="a")(function)
"""


@pytest.mark.parametrize(
    "declaration",
    [
        "app.task(name='a')(functools.partial(declared_library.plain, 1))",
        "app.task(name='a')(declared_library.plain)",
        "app.task(name='a')(declared_library.Sender())",
        "app.task(name='a')(declared_library.Sender().send)",
        "app.task(name='a')(print)",
        "app.task(name='a')(lambda: None)",
        "@app.task(name='a')\n@declared_library.bare\ndef a(n): ...",
        "def a(n): ...\ndeclared_library.declare(app, a)",
        "app.add_task_alias(declared_library.shared, 'a')",
        "app.add_tasks_from(declared_library.blueprint, namespace='a')",
        "app.periodic(cron='* * * * *')(declared_library.shared)",
        "def make():\n    @app.task(name='a')\n    def a(): ...\nmake()",
    ],
)
def test_a_module_runs_again_whatever_it_declares(project: Project, declaration: str) -> None:
    library = """
from procrastinate import Blueprint
from declared_app import app
blueprint = Blueprint()
blueprint.task(name="b")(print)
shared = app.task(name="shared", aliases=["common"])(lambda timestamp: None)
"""
    project.write("declared_library", _LIBRARY + library)
    text = f"from declared_app import app\nimport declared_library, functools\n{declaration}\n"
    project.write("declared_tasks", f"{text}\nimport not_installed_here")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("declared_tasks")
    project.write("declared_tasks", text)
    importlib.import_module("declared_tasks")
    project.reload("declared_tasks", text)
    project.reload("declared_tasks", f"\n{text}")


def test_a_function_that_was_renamed_takes_the_place_of_its_former_self(project: Project) -> None:
    project.write("declared_tasks", "from declared_app import app\n@app.task(name='a')\ndef former(): ...")
    importlib.import_module("declared_tasks")
    module = project.reload("declared_tasks", "from declared_app import app\n@app.task(name='a')\ndef later(): ...")
    assert project.app.tasks["a"] is module.later


def test_a_limit_with_other_numbers_after_a_reload_holds_for_all_its_tasks(project: Project) -> None:
    text = """
from declared_app import app
from procrastinate import Limit
limit = Limit("api", concurrency={concurrency})
app.task(name="a", limit=limit)(lambda: None)
app.task(name="b", limit=limit)(lambda: None)
"""
    project.write("declared_limit", text.format(concurrency=3))
    project.write(
        "declared_tasks",
        "from declared_limit import app, limit\napp.task(name='elsewhere', limit=limit)(lambda: None)",
    )
    importlib.import_module("declared_tasks")
    module = project.reload("declared_limit", text.format(concurrency=5))
    app = project.app
    assert [app.tasks[name].limit for name in ("a", "b", "elsewhere")] == [module.limit] * 3
    assert app.list_limits() == [module.limit]
    with pytest.raises(ValueError, match=r"twice with different numbers.*concurrency=5.* in declared_limit .*=7.* in "):
        project.reload(
            "declared_limit", f"{text.format(concurrency=5)}\napp.task(limit=Limit('api', concurrency=7))(print)"
        )


def test_a_limit_can_be_copied_and_pickled(project: Project) -> None:
    limit = Limit("api", concurrency=3)
    assert copy.deepcopy(limit) == pickle.loads(pickle.dumps(limit)) == dataclasses.replace(limit) == limit


def test_a_hook_of_a_module_that_runs_again_is_called_once(project: Project) -> None:
    text = """
from declared_app import app
called = []
@app.on_defer
def first(defer): called.append({number})
@app.on_defer
def second(defer): called.append({number})
app.task(name="a")(lambda: None)
"""
    project.write("declared_hooks", text.format(number=1))
    importlib.import_module("declared_hooks")
    module = project.reload("declared_hooks", text.format(number=2))
    project.app.tasks["a"].defer()
    assert module.called == [2, 2]


def test_the_error_of_a_clash_says_where_the_first_task_is(project: Project) -> None:
    project.write("declared_one", "from declared_app import app\n\napp.task(name='a')(print)")
    project.write("declared_two", "from declared_app import app\napp.task(name='a')(print)")
    importlib.import_module("declared_one")
    with pytest.raises(exceptions.TaskAlreadyRegistered, match=r"in declared_one \(.*declared_one.py, line 3\)$"):
        importlib.import_module("declared_two")


def test_the_error_of_a_clash_says_that_one_file_has_two_names(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "declared_package").mkdir()
    text = "from declared_app import app\napp.task(name='a')(print)"
    (project.folder / "declared_package" / "declared_inner.py").write_text(text)
    monkeypatch.syspath_prepend(str(project.folder / "declared_package"))
    importlib.import_module("declared_package.declared_inner")
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="is imported as declared_inner, too"):
        importlib.import_module("declared_inner")


@pytest.mark.parametrize(
    "text",
    [
        "@app.task\ndef a(): ...\n@app.task\ndef a(): ...",
        "for _ in range(2):\n    @app.task\n    def a(): ...",
        "def make():\n    @app.task\n    def a(): ...\nmake()\nmake()",
        "@app.task(name='a')\ndef b(): ...\n@app.task(name='a')\ndef c(): ...",
        "class A:\n    @app.task\n    def a(): ...\nclass B:\n    @app.task\n    def a(): ...",
    ],
    ids=["twice", "loop", "factory", "names", "methods"],
)
def test_two_tasks_of_one_module_and_name_clash(project: Project, text: str) -> None:
    project.write("declared_tasks", f"from declared_app import app\n{text}")
    with pytest.raises(exceptions.TaskAlreadyRegistered):
        importlib.import_module("declared_tasks")


def test_two_modules_with_tasks_of_one_name_clash(project: Project) -> None:
    for name in ("declared_one", "declared_two"):
        project.write(name, "from declared_app import app\n@app.task(name='a')\ndef a(): ...")
    importlib.import_module("declared_one")
    with pytest.raises(exceptions.TaskAlreadyRegistered):
        importlib.import_module("declared_two")


@pytest.mark.parametrize("edited", ["def cell(): return 1", "\n\ndef cell(): return 1"])
def test_a_cell_of_a_notebook_may_be_run_again(project: Project, edited: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "__spec__": None}
    for number, text in enumerate(("def cell(): return 0", edited)):
        exec(
            compile(f"from declared_app import app\n{text}\ntask = app.task(name='cell')(cell)", f"<{number}>", "exec"),
            namespace,
        )
    assert project.app.tasks["cell"] is namespace["task"]
    assert namespace["task"]() == 1


def _run_cell(text: str, namespace: dict[str, Any], file: str = "<cell>") -> None:
    exec(compile(f"from declared_app import app\n{text}", file, "exec"), namespace)


@pytest.mark.parametrize("again", ["", "\n"], ids=["same", "moved"])
def test_a_cell_that_makes_a_task_of_an_imported_function_may_be_run_again(project: Project, again: str) -> None:
    project.write("declared_functions", "def a(): ...")
    namespace: dict[str, Any] = {"__name__": "__main__", "__spec__": None}
    cell = "from declared_functions import a\ntask = app.task(name='a')(a)"
    _run_cell(cell, namespace)
    _run_cell(again + cell, namespace, "<other>" if again else "<cell>")
    assert project.app.tasks["a"] is namespace["task"]


def test_a_cell_that_makes_the_tasks_of_celery_may_be_run_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_app, "_shared", celery_app._SharedTasks())
    project.write("declared_celery", "from procrastinate.contrib.celery import shared_task\n@shared_task\ndef a(): ...")
    namespace: dict[str, Any] = {"__name__": "__main__", "__spec__": None}
    for _ in range(2):
        _run_cell(
            "import declared_celery\nfrom procrastinate.contrib.celery import CeleryTasks\ntasks = CeleryTasks(app)",
            namespace,
        )
    assert namespace["tasks"].tasks["declared_celery.a"].app is namespace["tasks"]


def test_a_cell_of_a_notebook_that_knows_its_file_may_be_run_again(project: Project) -> None:
    """As in marimo, which also gives each cell a file of its own."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__spec__": None, "__file__": "/work/notebook.py"}
    for value in range(2):
        _run_cell(f"@app.task(name='cell')\ndef cell(): return {value}", namespace, "/tmp/marimo/cell_1.py")
    assert project.app.tasks["cell"]() == 1


def test_two_tasks_of_a_program_and_name_clash(project: Project) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "__spec__": None, "__file__": "/work/program.py"}
    text = "for value in range(2):\n    app.task(name='a')(lambda: value)"
    with pytest.raises(exceptions.TaskAlreadyRegistered):
        _run_cell(text, namespace, "/work/program.py")


def test_a_program_that_runs_as_main_and_is_imported_has_one_task(project: Project) -> None:
    project.write(
        "declared_tasks",
        "from declared_app import app\n@app.task\ndef a(): ...\n"
        "if __name__ == '__main__':\n    import declared_tasks\n"
        "    print(app.tasks['declared_tasks.a'] is declared_tasks.a)",
    )
    for arguments in (["-m", "declared_tasks"], ["declared_tasks.py"]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=project.folder, capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"
