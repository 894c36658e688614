"""A system check reports wrong settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test.utils import override_settings

from procrastinate import Limit
from procrastinate.adapters.django.settings import NAMES, DashboardSettings, Settings, get_settings
from procrastinate.contrib.django.settings import settings as lazy_settings


def _ids(**settings: Any) -> list[str | None]:
    with override_settings(**settings):
        return [message.id for message in run_checks(tags=["procrastinate"])]


def test_the_defaults_are_right() -> None:
    """A project needs no settings at all."""
    assert _ids() == []
    assert get_settings() == Settings()


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_known_both_ways(name: str) -> None:
    """Each setting works under its own name and as a key of the dict."""
    value = "default" if name == "DATABASE_ALIAS" else getattr(Settings(), name)
    assert _ids(**{f"PROCRASTINATE_{name}": value}) == []
    assert _ids(PROCRASTINATE={name: value}) == []
    with override_settings(PROCRASTINATE={name: "value"}):
        assert getattr(get_settings(), name) == "value"
    with override_settings(**{f"PROCRASTINATE_{name}": "value"}):
        assert getattr(lazy_settings, name) == "value"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"PROCRASTINATE": ["tasks"]}, "E001"),
        ({"PROCRASTINATE": {"IMPORT_PATH": []}}, "E002"),
        ({"PROCRASTINATE_IMPORT_PATH": []}, "E002"),
        ({"PROCRASTINATE": {"IMPORT_PATHS": []}, "PROCRASTINATE_IMPORT_PATHS": []}, "E003"),
        ({"PROCRASTINATE": {"IMPORT_PATHS": "shop.tasks"}}, "E004"),
        ({"PROCRASTINATE_READONLY_MODELS": "no"}, "E004"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": [("name", "worker")]}, "E004"),
        ({"PROCRASTINATE_PERIODIC_DEFAULTS": 600}, "E004"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": {"concurency": 2}}, "E008"),
        ({"PROCRASTINATE_PERIODIC_DEFAULTS": {"delay": 2}}, "E008"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": {"concurrency": "2"}}, "E009"),
        ({"PROCRASTINATE": {"WORKER_DEFAULTS": {"delete_jobs": "sometimes"}}}, "E009"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": {"processes": 0}}, "E009"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": {"uvloop": "0"}}, "E009"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": {"worker_middleware": [str]}}, "E009"),
        ({"PROCRASTINATE_WORKER_DEFAULTS": {"queues": iter(["mail"])}}, "E009"),
        ({"PROCRASTINATE_PERIODIC_DEFAULTS": {"max_delay": "600"}}, "E009"),
        ({"PROCRASTINATE_PERIODIC_DEFAULTS": {"max_delay": -1}}, "E009"),
        ({"PROCRASTINATE_LISTEN_CONNECT_ARGS": 5432}, "E004"),
        ({"PROCRASTINATE_LISTEN_CONNECT_ARGS": {"hots": "db"}}, "E009"),
        ({"PROCRASTINATE_LISTEN_CONNECT_ARGS": "host=db port"}, "E009"),
        ({"PROCRASTINATE": {"LISTEN_CONNECT_ARGS": ""}}, "E009"),
        ({"PROCRASTINATE_LIMITS": "mail"}, "E004"),
        ({"PROCRASTINATE_LIMITS": ""}, "E004"),
        ({"PROCRASTINATE_LIMITS": Limit("mail", queue="mail", concurrency=1)}, "E004"),
        ({"PROCRASTINATE": {"LIMITS": ["mail"]}}, "E004"),
        ({"PROCRASTINATE_LIMITS": [Limit("mail", concurrency=1)]}, "E009"),
        ({"PROCRASTINATE_LIMITS": [Limit(name, queue="mail", concurrency=1) for name in ("a", "b")]}, "E009"),
        ({"PROCRASTINATE_DATABASE_ALIAS": None}, "E004"),
        ({"PROCRASTINATE_AUTODISCOVER_MODULE_NAME": 1}, "E004"),
        ({"PROCRASTINATE_AUTODISCOVER_MODULE_NAME": ""}, "E004"),
        ({"PROCRASTINATE_AUTODISCOVER_MODULE_NAME": "tasks.py"}, "E004"),
        ({"PROCRASTINATE_AUTODISCOVER_MODULE_NAME": "background tasks"}, "E004"),
        ({"PROCRASTINATE_IMPORT_PATHS": ["shop.tusks"]}, "E005"),
        ({"PROCRASTINATE_ON_APP_READY": "tests.django.shop.nothing.here"}, "E005"),
        ({"PROCRASTINATE_ON_APP_READY": "tests.django.shop.tasks.nothing"}, "E005"),
        ({"PROCRASTINATE_CREATE_CONNECTOR": "no_dots"}, "E005"),
        ({"PROCRASTINATE_CREATE_CONNECTOR": "tests.django.project.settings.SECRET_KEY"}, "E005"),
        ({"PROCRASTINATE_DATABASE_ALIAS": "nowhere"}, "E006"),
        ({"PROCRASTINATE_READ_DATABASE_ALIAS": 1}, "E004"),
        ({"PROCRASTINATE_DASHBOARD": [("title", "Staging")]}, "E004"),
        ({"PROCRASTINATE_DASHBOARD": {"readonly": True}}, "E008"),
        ({"PROCRASTINATE": {"DASHBOARD": {"read_only": "no"}}}, "E009"),
        ({"PROCRASTINATE_DASHBOARD": {"title": 1}}, "E009"),
        ({"PROCRASTINATE_DASHBOARD": {"redact": "tests.django.shop.tasks.nothing"}}, "E009"),
        ({"PROCRASTINATE_DASHBOARD": {"authorize": "tests.django.project.settings.SECRET_KEY"}}, "E009"),
        ({"PROCRASTINATE_READ_DATABASE_ALIAS": "nowhere"}, "E006"),
    ],
)
def test_errors(settings: dict[str, Any], error: str) -> None:
    """Each wrong setting gives one error."""
    assert _ids(**settings) == [f"procrastinate.{error}"]


def test_an_unknown_name_gets_a_suggestion() -> None:
    """Most unknown names are typos."""
    with override_settings(PROCRASTINATE_DATABASE_ALAIS="default"):
        (message,) = run_checks(tags=["procrastinate"])
    assert message.hint is not None
    assert "DATABASE_ALIAS" in message.hint


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"readonly": True}, "has the unknown option 'readonly'.", "Do you mean read_only?"),
        ({"trusted_origins": []}, "has the unknown option 'trusted_origins'.", "Set Django's CSRF_TRUSTED_ORIGINS"),
        ({"on_action": "no_dots"}, "on_action is 'no_dots': no_dots doesn't look like a module path", None),
        ({"connector": 5}, "connector must be a function or the dotted path of one, not 5.", None),
        ({"redact": lambda value: value}, "redact is called with (task_name, value)", None),
        ({"on_action": asyncio.sleep}, "on_action takes a function that is not async", None),
    ],
)
def test_an_option_of_the_dashboard_is_named(options: dict[str, Any], message: str, hint: str | None) -> None:
    with override_settings(PROCRASTINATE_DASHBOARD=options):
        (said,) = run_checks(tags=["procrastinate"])
    assert said.msg.startswith("PROCRASTINATE_DASHBOARD")
    assert message in said.msg
    assert (said.hint or "").startswith(hint or "")


def test_the_options_of_the_dashboard_may_be_left_at_none() -> None:
    assert _ids(PROCRASTINATE_DASHBOARD=dict.fromkeys(DashboardSettings.__annotations__)) == []


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"concurency": 2}, "has the unknown option 'concurency'.", "Do you mean concurrency?"),
        ({"concurrency": 0}, "concurrency must be at least 1, not 0.", None),
        ({"queues": "mail"}, "write queues=['mail'].", None),
        ({"update_heartbeat_interval": 60}, "must be longer than update_heartbeat_interval (1 min)", None),
    ],
)
def test_an_option_of_the_worker_is_named(options: dict[str, Any], message: str, hint: str | None) -> None:
    """``manage.py check`` reports the option before a worker starts."""
    with override_settings(PROCRASTINATE={"WORKER_DEFAULTS": options}):
        (said,) = run_checks(tags=["procrastinate"])
    assert said.msg.startswith("PROCRASTINATE['WORKER_DEFAULTS']")
    assert message in said.msg
    assert said.hint == hint


@pytest.mark.parametrize("value", ["host=db password=hunter2 sslmode", ["host=db password=hunter2"]])
def test_a_password_is_in_no_message(value: Any) -> None:
    """Deployments print and log the messages of checks."""
    with override_settings(PROCRASTINATE_LISTEN_CONNECT_ARGS=value):
        (message,) = run_checks(tags=["procrastinate"])
    assert "hunter2" not in f"{message.msg} {message.hint}"


def test_a_way_past_the_pooler_is_right() -> None:
    """Both forms are accepted, with only the differing parameters."""
    for value in ("host=db port=5432", "postgresql://db:5432", {"host": "db"}):
        assert _ids(PROCRASTINATE_LISTEN_CONNECT_ARGS=value) == []


def test_a_connector_of_the_projects_own_needs_no_alias() -> None:
    """The alias then has no effect."""
    assert (
        _ids(
            PROCRASTINATE_DATABASE_ALIAS="nowhere",
            PROCRASTINATE_CREATE_CONNECTOR="procrastinate.adapters.django.connector.DjangoConnector",
        )
        == []
    )
