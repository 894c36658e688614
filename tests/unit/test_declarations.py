"""Modules that are imported, reloaded or run again declare their tasks again."""

from __future__ import annotations

import importlib
import logging
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from procrastinate import exceptions

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
    with pytest.raises(exceptions.TaskAlreadyRegistered, match="periodic_id="):
        project.reload("declared_schedule", text.replace("* * * * *", "5 * * * *"))


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
