"""Django: the names that projects import, and the settings and calls that they use."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class

from procrastinate import App, exceptions
from procrastinate.testing import InMemoryConnector
from tests.django import support

support.set_up()

NAMES = {
    "": "DjangoApp app connector_params",
    ".apps": "ProcrastinateConfig",
    ".admin": "ProcrastinateJobAdmin",
    ".db_cleanup": "close_db_connections close_db_connections_async",
    ".django_connector": "DjangoConnector",
    ".exceptions": "DjangoNotReady ReadOnlyModel",
    ".healthchecks": "healthchecks",
    ".models": "ProcrastinateEvent ProcrastinateJob ProcrastinatePeriodicDefer ProcrastinateWorker",
    ".procrastinate_app": "app current_app",
    ".settings": "Settings settings",
    ".utils": "connector_params",
}

FIELDS = {
    "ProcrastinateWorker": {"id": "BigIntegerField", "last_heartbeat": "DateTimeField"},
    "ProcrastinateJob": {
        "id": "BigAutoField",
        "queue_name": "CharField",
        "task_name": "CharField",
        "priority": "IntegerField",
        "lock": "TextField",
        "queueing_lock": "TextField",
        "args": "JSONField",
        "status": "CharField",
        "scheduled_at": "DateTimeField",
        "attempts": "IntegerField",
        "abort_requested": "BooleanField",
        "worker": "ForeignKey",
    },
    "ProcrastinateEvent": {
        "id": "BigAutoField",
        "job": "ForeignKey",
        "type": "CharField",
        "at": "DateTimeField",
    },
    "ProcrastinatePeriodicDefer": {
        "id": "BigAutoField",
        "task_name": "CharField",
        "defer_timestamp": "BigIntegerField",
        "job": "ForeignKey",
        "periodic_id": "CharField",
    },
}

DEFAULTS: dict[str, Any] = {
    "AUTODISCOVER_MODULE_NAME": "tasks",
    "IMPORT_PATHS": [],
    "DATABASE_ALIAS": "default",
    "WORKER_DEFAULTS": None,
    "PERIODIC_DEFAULTS": None,
    "ON_APP_READY": None,
    "READONLY_MODELS": True,
}


@pytest.mark.parametrize("module", NAMES)
def test_names_are_where_they_were(module: str) -> None:
    loaded = importlib.import_module(f"procrastinate.contrib.django{module}")
    assert [name for name in NAMES[module].split() if not hasattr(loaded, name)] == []


def test_the_application_has_its_label_and_its_app() -> None:
    config: Any = apps.get_app_config("procrastinate")
    from procrastinate.contrib.django import app, procrastinate_app

    assert config.app is app is procrastinate_app.current_app


@pytest.mark.parametrize("model", FIELDS)
def test_models_have_their_fields(model: str) -> None:
    fields = {
        field.name: type(field) for field in apps.get_model("procrastinate", model)._meta.get_fields() if field.concrete
    }
    for name, kind in FIELDS[model].items():
        assert kind in {cls.__name__ for cls in fields[name].__mro__}


def test_settings_have_their_defaults() -> None:
    from procrastinate.contrib.django.settings import Settings

    defaults = Settings()
    for name, value in DEFAULTS.items():
        found = getattr(defaults, name)
        assert (list(found) if value == [] else found) == value


@pytest.mark.parametrize(
    ("subcommand", "flags"),
    [
        ("worker", ["--queues", "--concurrency", "--one-shot", "--delete-jobs", "--shutdown-graceful-timeout"]),
        ("defer", ["--queueing-lock", "--unknown", "--at", "--in", "--priority", "json_args"]),
        ("healthchecks", []),
        ("shell", ["shell_command"]),
    ],
)
def test_the_command_takes_what_it_took(subcommand: str, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert get_commands()["procrastinate"] == apps.get_app_config("procrastinate").name
    with pytest.raises(SystemExit):
        _command().create_parser("manage.py", "procrastinate").parse_args([subcommand, "--help"])
    shown = capsys.readouterr().out
    assert [flag for flag in flags if flag not in shown] == []


def _command() -> Any:
    return load_command_class(get_commands()["procrastinate"], "procrastinate")


def test_the_command_plans_the_move_from_3x_and_goes_back() -> None:
    """The schema is applied by ``migrate``, as in 3.x."""
    parser = _command().create_parser("manage.py", "procrastinate")
    assert parser.parse_args(["schema", "--plan"]).action == "plan"
    assert parser.parse_args(["schema", "--revert-to-3x"]).action == "revert_to_3x"


def test_exceptions_hang_in_the_tree() -> None:
    from procrastinate.contrib.django.exceptions import DjangoNotReady, ReadOnlyModel

    assert issubclass(DjangoNotReady, exceptions.ProcrastinateException)
    assert issubclass(ReadOnlyModel, exceptions.ProcrastinateException)


def test_the_connector_of_the_project_is_replaced_in_tests() -> None:
    """Uses the fixture of 3.x's documentation, and the older one."""
    from procrastinate.contrib.django import procrastinate_app

    in_memory = InMemoryConnector()
    with procrastinate_app.current_app.replace_connector(in_memory) as app:
        app.configure_task("unknown").defer(a=1)
    assert in_memory.jobs[1]["args"] == {"a": 1}
    other: App = procrastinate_app.current_app.with_connector(InMemoryConnector())
    assert other.tasks is app.tasks
