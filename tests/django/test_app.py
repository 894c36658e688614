"""The project's app accepts declarations at import, and everything else once Django is ready."""

from __future__ import annotations

import json
import pathlib
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
from tests.django.project.settings import database
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


_FOR_MODELS = ("django.contrib.contenttypes", "django.contrib.auth")


def _run(script: str, **settings: Any) -> str:
    """Run a script with a Django project of these settings, and return its output."""
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
    """All its names give the same real `App`."""
    assert app is current_app is apps.get_app_config("procrastinate").app
    assert isinstance(app, procrastinate.App)
    assert isinstance(app, DjangoApp)
    assert procrastinate.App.from_path("procrastinate.contrib.django.app") is app


def test_the_app_of_the_project_has_djangos_connection_and_the_tasks_of_the_installed_apps() -> None:
    """The app uses Django's connection and knows the tasks of the installed apps."""
    assert isinstance(app.connector, DjangoConnector)
    assert app.tasks["shop.ship_async"] is tasks.ship_async
    assert app.import_paths == ["tests.django.shop.tasks"]


_INSTALLED = {
    "procrastinate.contrib.django": "procrastinate.contrib.django",
    "procrastinate.contrib.django.apps.ProcrastinateConfig": "procrastinate.contrib.django",
    "procrastinate.adapters.django": "procrastinate.adapters.django",
    "procrastinate.adapters.django.apps.ProcrastinateConfig": "procrastinate.adapters.django",
}
"""Entries for INSTALLED_APPS, and the name of the app that each installs."""


@pytest.mark.parametrize(("entry", "name"), _INSTALLED.items())
def test_the_app_is_installed_under_the_name_that_the_project_gives(entry: str, name: str) -> None:
    printed = _run(
        """
django.setup()
import pathlib
from django.apps import apps
from django.contrib.staticfiles import finders
from django.core.management import get_commands, load_command_class
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from django.template.loader import get_template
from procrastinate.contrib.django.models import ProcrastinateJob
name = given["NAME"]
config = apps.get_app_config("procrastinate")
assert config.name == name and apps.is_installed(name), config.name
assert apps.get_containing_app_config(name + ".models") is config
assert ProcrastinateJob._meta.app_config is config and ProcrastinateJob in config.get_models()
loader = MigrationLoader(None)
assert "procrastinate" in loader.migrated_apps
autodetector = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps))
changes = autodetector.changes(loader.graph, trim_to_apps={"procrastinate"})
assert not changes, changes
assert loader.migrations_module("procrastinate")[0] == name + ".migrations"
assert get_commands()["procrastinate"] == name
load_command_class(name, "procrastinate")
get_template("procrastinate/admin/errors.html")
assert finders.find("procrastinate/admin.css")
apps.set_available_apps([name])
print("all right")
""",
        NAME=name,
        INSTALLED_APPS=[entry, "tests.django.shop", "django.contrib.staticfiles", *_FOR_MODELS],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    )
    assert printed == "all right"


def test_the_app_installed_under_two_names_is_refused_with_both_names() -> None:
    printed = _run(
        """
from django.core.exceptions import ImproperlyConfigured
try:
    django.setup()
except ImproperlyConfigured as error:
    print(error)
""",
        INSTALLED_APPS=["procrastinate.contrib.django", "procrastinate.adapters.django"],
    )
    assert "twice" in printed
    assert "'procrastinate.contrib.django'" in printed
    assert "'procrastinate.adapters.django'" in printed


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("verbose_name = 'Jobs'", "Jobs"),
        ("name = 'site_apps'", "write name = 'procrastinate.contrib.django'"),
        ("label = 'jobs'", "write name = 'procrastinate.contrib.django'"),
    ],
)
def test_a_configuration_of_the_project_keeps_the_name_under_which_django_finds_the_tables(
    tmp_path: pathlib.Path, body: str, said: str
) -> None:
    (tmp_path / "site_apps.py").write_text(
        "from procrastinate.contrib.django.apps import ProcrastinateConfig\n"
        f"class Jobs(ProcrastinateConfig):\n    {body}\n"
    )
    printed = _run(
        """
import sys
sys.path.insert(0, given["FOLDER"])
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
try:
    django.setup()
    print(apps.get_app_config("procrastinate").verbose_name)
except ImproperlyConfigured as error:
    print(error)
""",
        FOLDER=str(tmp_path),
        INSTALLED_APPS=["site_apps.Jobs", *_FOR_MODELS],
    )
    assert said in printed


def test_the_admin_is_registered_under_both_names() -> None:
    for name in ("procrastinate.contrib.django", "procrastinate.adapters.django"):
        printed = _run(
            """
django.setup()
from django.contrib import admin
from procrastinate.contrib.django.models import ProcrastinateJob
print(admin.site.is_registered(ProcrastinateJob))
""",
            INSTALLED_APPS=[
                *("django.contrib.admin", "django.contrib.messages", "django.contrib.sessions"),
                *(name, *_FOR_MODELS),
            ],
        )
        assert printed == "True", name


def test_an_installed_app_that_is_one_module_has_no_tasks(tmp_path: pathlib.Path) -> None:
    (tmp_path / "single.py").write_text("")
    printed = _run(
        "sys.path.insert(0, given['PATH']); django.setup()\n"
        "from procrastinate.contrib.django import app; print(app.import_paths)",
        PATH=str(tmp_path),
        INSTALLED_APPS=["procrastinate.contrib.django", "single"],
    )
    assert printed == "[]"


_BROKEN_TASKS = {
    "a package that is not installed": "from celery_that_is_not_here import shared_task",
    "a name that is not defined": "undefined_name",
    "a slip of the pen": "def (",
    "a script without a guard": "import sys; sys.exit(3)",
}


@pytest.mark.parametrize("text", _BROKEN_TASKS.values(), ids=_BROKEN_TASKS)
def test_an_app_whose_tasks_cannot_be_imported_is_named_and_can_be_left_out(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "thirdparty").mkdir()
    (tmp_path / "thirdparty" / "__init__.py").touch()
    (tmp_path / "thirdparty" / "tasks.py").write_text(text)
    script = """
sys.path.insert(0, given["PATH"])
try:
    django.setup()
except Exception as error:
    print(error.__notes__)
else:
    from procrastinate.contrib.django import app
    print(app.import_paths)
"""
    project = {"PATH": str(tmp_path), "INSTALLED_APPS": ["procrastinate.contrib.django", "thirdparty"]}
    printed = _run(script, **project)
    for words in ("thirdparty.tasks", "PROCRASTINATE_AUTODISCOVER_MODULE_NAME", "PROCRASTINATE_AUTODISCOVER_EXCLUDE"):
        assert words in printed
    assert _run(script, PROCRASTINATE_AUTODISCOVER_EXCLUDE=["thirdparty"], **project) == "[]"


def test_a_module_of_import_paths_that_cannot_be_imported_is_said_to_be_one(tmp_path: pathlib.Path) -> None:
    (tmp_path / "of_import_paths.py").write_text("undefined_name")
    printed = _run(
        """
sys.path.insert(0, given["PATH"])
try:
    django.setup()
except NameError as error:
    print(error.__notes__)
""",
        PATH=str(tmp_path),
        INSTALLED_APPS=["procrastinate.contrib.django"],
        PROCRASTINATE_IMPORT_PATHS=["of_import_paths"],
    )
    assert "PROCRASTINATE_IMPORT_PATHS" in printed


_READS_AT_IMPORT = """
import asyncio
from django.db import connection
connection.ensure_connection()
lent = connection.connection
asyncio.run(asyncio.sleep(0))
"""


def test_modules_with_tasks_are_imported_as_sync_code_in_the_loop_of_a_server(
    tmp_path: pathlib.Path, project_url: str
) -> None:
    """uvicorn loads the project in its event loop. The loop goes on, and no connection stays open."""
    (tmp_path / "reads.py").write_text(_READS_AT_IMPORT)
    script = """
import asyncio
sys.path.insert(0, given["PATH"])

async def serve():
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    django.setup()
    import reads
    assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
    await asyncio.sleep(0)
    print(reads.lent.closed)

asyncio.run(serve())
"""
    printed = _run(
        script,
        PATH=str(tmp_path),
        DATABASES={"default": database(project_url)},
        INSTALLED_APPS=["procrastinate.contrib.django"],
        PROCRASTINATE_IMPORT_PATHS=["reads"],
    )
    assert printed == "True"


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
    """Every early use raises an error with instructions."""
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
    """The pattern is bound together with the app."""
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
    """All settings are read from the dict."""
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


def test_tracing_that_is_turned_on_before_django_is_ready_stays_on() -> None:
    """An app that comes first in INSTALLED_APPS calls ``instrument`` before the settings are applied."""
    script = """
from procrastinate.contrib.django import app
from procrastinate.otel import instrument
instrument(app)
django.setup()
print(*(getattr(one, "func", one).__name__ for one in app.worker_defaults["worker_middleware"]))
"""
    own = """
async def of_the_settings(call_next, context, worker): await call_next()
settings.PROCRASTINATE_WORKER_DEFAULTS = {"worker_middleware": [of_the_settings]}
"""
    assert _run(script) == "trace_runs"
    assert _run(own + script) == "trace_runs of_the_settings"


def test_the_app_reads_from_the_alias_of_a_replica() -> None:
    """Everything else, workers included, uses the other alias."""
    script = """
django.setup()
from procrastinate.contrib.django import app
print(app.connector.primary.alias, app.connector.replica.alias)
"""
    assert _run(script, PROCRASTINATE_READ_DATABASE_ALIAS="default") == "default default"


def test_in_a_test_the_app_reads_what_the_transaction_of_the_test_has_written(project_url: str) -> None:
    """Also if the test does not name the alias of the replica, which Django forbids to use then."""
    script = """
django.setup()
from django import test
from django.test.utils import setup_test_environment, teardown_test_environment
from procrastinate.contrib.django import app
from procrastinate.testing import JobsMixin
from tests.django.shop.tasks import fail

class Tests(JobsMixin, test.TestCase):
    def test(self):
        fail.defer()
        self.jobs.assert_deferred(fail)
        print([job.task_name for job in app.job_manager.list_jobs()])

    async def test_async(self):
        await fail.defer_async()
        print([job.task_name for job in await app.job_manager.list_jobs_async()])

import unittest
setup_test_environment()
result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(Tests))
teardown_test_environment()
assert result.wasSuccessful()
"""
    entry = database(project_url)
    databases = {"default": entry, "replica": entry | {"TEST": {"MIRROR": "default"}}}
    printed = _run(
        script,
        DATABASES=databases,
        PROCRASTINATE_READ_DATABASE_ALIAS="replica",
        INSTALLED_APPS=["procrastinate.contrib.django", "tests.django.shop", *_FOR_MODELS],
    )
    assert printed.splitlines() == ["['shop.fail']"] * 2


def test_autodiscovery_can_be_turned_off() -> None:
    """Without autodiscovery, PROCRASTINATE_IMPORT_PATHS lists the modules to import."""
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
    """`django.setup()` raises the project's own error."""
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
    """The system check reports them, and so does any use of the app."""
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
        "DjangoNotReady The settings of Procrastinate are invalid: "
        "PROCRASTINATE['CREATE_CONECTOR'] is not a setting of Procrastinate.",
    ]


def test_a_database_that_is_not_postgresql_is_a_check_error() -> None:
    """Nothing else fails."""
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
    """`DjangoNotReady` is a `ProcrastinateException`, like all errors of the project."""
    assert issubclass(DjangoNotReady, procrastinate.exceptions.ProcrastinateException)
