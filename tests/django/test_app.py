"""The project's app: usable for declarations at import, for everything else when Django is ready."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from django.apps import apps

import procrastinate
from procrastinate.adapters.django.connector import DjangoConnector
from procrastinate.contrib.django import DjangoApp, app
from procrastinate.contrib.django.exceptions import DjangoNotReady
from procrastinate.contrib.django.procrastinate_app import current_app
from tests.django.shop import tasks
from tests.django.support import ROOT

_SETUP = """
import json, sys
import django
from django.conf import settings
given = json.loads(sys.argv[1])
settings.configure(**{
    "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    "INSTALLED_APPS": ["procrastinate.contrib.django", "tests.django.shop"],
    **given,
})
"""


def _run(script: str, **settings: Any) -> str:
    """What a script prints that starts with a project of these settings."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SETUP + script, json.dumps(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_there_is_one() -> None:
    """Under all its names, and a real App."""
    assert app is current_app is apps.get_app_config("procrastinate").app
    assert isinstance(app, procrastinate.App)
    assert isinstance(app, DjangoApp)
    assert procrastinate.App.from_path("procrastinate.contrib.django.app") is app


def test_it_is_bound() -> None:
    """To Django's connection, with the tasks of the installed apps."""
    assert isinstance(app.connector, DjangoConnector)
    assert app.tasks["shop.ship_async"] is tasks.ship_async
    assert app.import_paths == ["tests.django.shop.tasks"]


@pytest.mark.parametrize("installed", ["procrastinate.contrib.django", "procrastinate.adapters.django"])
def test_both_names_install_the_same(installed: str) -> None:
    """The same label, models and migrations."""
    printed = _run(
        """
django.setup()
from django.apps import apps
from django.db.migrations.loader import MigrationLoader
from procrastinate.contrib.django.models import ProcrastinateJob
config = apps.get_app_config("procrastinate")
print(config.name, ProcrastinateJob._meta.label, {l for l, n in MigrationLoader(None).disk_migrations} - {"shop"})
""",
        INSTALLED_APPS=[installed, "tests.django.shop"],
    )
    assert printed == "procrastinate.adapters.django procrastinate.ProcrastinateJob {'procrastinate'}"


USES = (
    "task.defer()",
    "task.configure(lock='a').defer()",
    "task.batch_defer({})",
    "asyncio.run(task.defer_async())",
    "app.configure_task('task').defer()",
    "app.connector.get_worker_connector()",
    "app.job_manager.list_jobs()",
    "app.check_connection()",
    "app.open()",
    "app.run_worker()",
)


def test_too_early() -> None:
    """Every use says what to do."""
    printed = _run(
        f"""
import asyncio
from procrastinate.contrib.django import app
from procrastinate.contrib.django.exceptions import DjangoNotReady
@app.task(name="task")
def task(): pass
for use in {USES!r}:
    try:
        eval(use)
    except DjangoNotReady as error:
        print(error)
"""
    )
    assert ["django.setup()" in line for line in printed.splitlines()] == [True] * len(USES)


def test_a_pattern_made_too_early_can_be_used_later() -> None:
    """It is bound with the app."""
    printed = _run(
        """
from procrastinate.contrib.django import app
@app.task(name="task")
def task(): pass
pattern = task.configure(lock="a")
django.setup()
print(type(pattern.job_manager.connector).__name__)
"""
    )
    assert printed == "DjangoConnector"


def test_settings_of_the_app() -> None:
    """All of them, from the dict."""
    printed = _run(
        """
django.setup()
from procrastinate.contrib.django import app
print(app.worker_defaults, app.periodic_defaults, "shop:from_blueprint" in app.tasks, type(app.connector).__name__)
""",
        PROCRASTINATE={
            "WORKER_DEFAULTS": {"concurrency": 3},
            "PERIODIC_DEFAULTS": {"max_delay": 60},
            "ON_APP_READY": "tests.django.shop.hooks.on_app_ready",
            "CREATE_CONNECTOR": "tests.django.shop.hooks.create_connector",
            "DATABASE_ALIAS": "nowhere",
        },
    )
    assert printed == "{'concurrency': 3} {'max_delay': 60} True OwnConnector"


def test_autodiscovery_can_be_turned_off() -> None:
    """And other modules be imported."""
    script = """
django.setup()
from procrastinate.contrib.django import app
print("shop.ship_async" in app.tasks, app.import_paths)
"""
    assert _run(script, PROCRASTINATE_AUTODISCOVER_MODULE_NAME=None) == "False []"
    paths = ["tests.django.shop.tasks"]
    settings = {"PROCRASTINATE_AUTODISCOVER_MODULE_NAME": "nothing", "PROCRASTINATE_IMPORT_PATHS": paths}
    assert _run(script, **settings) == "True ['tests.django.shop.tasks']"


def test_an_error_in_a_tasks_module_is_not_hidden() -> None:
    """It is the project's, and shows at start."""
    printed = _run(
        """
try:
    django.setup()
except RuntimeError as error:
    print(error)
""",
        PROCRASTINATE_AUTODISCOVER_MODULE_NAME="broken",
    )
    assert printed == "this module is broken"


def test_wrong_settings_leave_the_app_unbound() -> None:
    """The system check has its say, and so has whoever tries to use the app without it."""
    printed = _run(
        """
django.setup()
from django.core import checks
from procrastinate.contrib.django import app
print([message.id for message in checks.run_checks()])
try:
    app.job_manager.list_jobs()
except Exception as error:
    print(type(error).__name__, error)
""",
        PROCRASTINATE={"CREATE_CONECTOR": "a.b"},
    )
    assert printed.splitlines() == [
        "['procrastinate.E002']",
        "DjangoNotReady The settings of Procrastinate are wrong: "
        "PROCRASTINATE['CREATE_CONECTOR'] is not a setting of Procrastinate.",
    ]


def test_a_database_that_is_not_postgresql_is_a_check_error() -> None:
    """Nothing else fails because of it."""
    printed = _run(
        """
django.setup()
from django.core import checks
print([message.id for message in checks.run_checks()])
""",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )
    assert printed == "['procrastinate.E007']"


def test_not_ready_is_an_error_of_procrastinate() -> None:
    """Like all its errors."""
    assert issubclass(DjangoNotReady, procrastinate.exceptions.ProcrastinateException)
