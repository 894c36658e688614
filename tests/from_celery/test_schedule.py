"""Periodic tasks of Celery, printed as declarations."""

from __future__ import annotations

import datetime
import pathlib
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery  # type: ignore[import-untyped, unused-ignore]
from celery.schedules import BaseSchedule, crontab, schedule  # type: ignore[import-untyped, unused-ignore]

from procrastinate import App
from procrastinate.cli.celery_schedule import print_declarations
from procrastinate.contrib.celery import CeleryTasks
from procrastinate.cron import check_cron
from procrastinate.from_celery.entries import Entry, read_beat_schedule
from procrastinate.from_celery.routes import routes_of
from procrastinate.from_celery.schedule import as_code
from procrastinate.from_celery.stored_call import StoredCall
from procrastinate.testing import InMemoryConnector

pytestmark = pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")


def translated(when: Any, **fields: Any) -> str:
    """The code for one entry."""
    (code,) = as_code([Entry(name="nightly", task="shop.report", schedule=when, **fields)], "Europe/Paris")
    return code


@pytest.mark.parametrize(
    ("when", "cron"),
    [
        (crontab(), "* * * * *"),
        (crontab(minute=0, hour="*/3"), "0 */3 * * *"),
        (crontab(minute="0, 30", day_of_week="mon-fri"), "0,30 * * * mon-fri"),
        (crontab(minute=[5, 1], day_of_month="1", month_of_year="6"), "1,5 * 1 6 *"),
        (crontab(minute=0, hour=0, day_of_week="sunday"), "0 0 * * sun"),
        (crontab(minute=0, hour=0, day_of_week="Tuesday-thursday"), "0 0 * * tue-thu"),
        (crontab(minute=0, hour=0, month_of_year="january,december"), "0 0 * jan,dec *"),
        (10, "* * * * * */10"),
        (1.0, "* * * * * *"),
        (datetime.timedelta(minutes=1), "* * * * *"),
        (schedule(300), "*/5 * * * *"),
        (3600, "0 * * * *"),
        (4 * 3600, "0 */4 * * *"),
        (86_400, "0 0 * * *"),
    ],
)
def test_a_schedule_becomes_a_cron_expression(when: Any, cron: str) -> None:
    assert f"cron={cron!r}" in translated(when)
    check_cron(cron)


def test_a_schedule_that_a_declaration_would_refuse_is_printed_as_a_comment() -> None:
    """A kind of crontab of the project's own may have any fields."""
    odd = crontab(minute=0)
    odd._orig_hour = "noon"
    assert translated(odd).startswith("# NOT TRANSLATED: nightly, task shop.report: cron='0 noo * * *' is not a cron")


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        (7, "7 s apart"),
        (45 * 60, "45 min apart"),
        (0.5, "500 ms apart"),
        (2 * 86_400, "2 d apart"),
        (crontab(day_of_month="1", day_of_week="mon"), "Celery wants both to match"),
        (BaseSchedule(), "of the kind BaseSchedule"),
    ],
)
def test_a_schedule_that_cron_cannot_say_is_printed_as_a_comment(when: Any, reason: str) -> None:
    code = translated(when)
    assert code.startswith("# NOT TRANSLATED: nightly, task shop.report: ")
    assert reason in code


def routed(routes: Any, **fields: Any) -> str:
    """The code for one entry of an app with these routes, which declares ``shop.mail`` with a queue of its own."""
    app = Celery("shop", set_as_current=False)
    app.conf.task_routes = routes

    @app.task(name="shop.mail", queue="mails", priority=2, shared=False)  # type: ignore[untyped-decorator, unused-ignore]
    def mail() -> None: ...

    entry = Entry(**{"name": "nightly", "task": "shop.report", "schedule": 60, **fields})
    (code,) = as_code([entry], route=routes_of(app))
    return code


def by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **others: Any) -> Any:
    """Routes by the first argument of the call."""
    return {"queue": args[0]} if name == "shop.report" else None


@pytest.mark.parametrize(
    ("routes", "fields", "queue"),
    [
        ({"shop.report": {"queue": "slow"}}, {}, "slow"),
        ({"shop.*": "slow"}, {}, "slow"),
        ([by_function], {"args": ["sales"]}, "sales"),
        ([{"shop.other": "other"}, ([("shop.re*", {"queue": "slow"})])], {}, "slow"),
        ({"shop.*": "slow"}, {"options": {"queue": "own"}}, "own"),
    ],
)
def test_a_printed_declaration_has_the_queue_of_the_route(routes: Any, fields: Any, queue: str) -> None:
    assert f"    queue={queue!r},\n" in routed(routes, **fields)


def test_a_printed_declaration_has_the_priority_of_the_route() -> None:
    code = routed({"shop.report": {"queue": "slow", "priority": 4}})
    assert "    queue='slow',\n    priority=4,\n" in code


@pytest.mark.parametrize("task", ["shop.mail", "elsewhere.task"])
def test_a_printed_declaration_names_no_queue_that_comes_from_the_task_or_from_no_route(task: str) -> None:
    assert "queue=" not in routed({"shop.*": {"queue": "slow", "priority": 4}}, task=task)


def test_a_route_that_cannot_be_carried_is_printed_as_a_comment() -> None:
    assert routed({"shop.*": {"exchange": "all"}}).endswith("task_routes sends it to an exchange: name a queue")
    assert "task_routes raises IndexError: " in routed([by_function])


@pytest.mark.parametrize("option", ["headers", "countdown", "link", "time_limit"])
def test_a_schedule_with_an_option_that_has_no_counterpart_is_printed_as_a_comment(option: str) -> None:
    (code,) = as_code([Entry(name="nightly", task="shop.report", schedule=60, options={option: 1})])
    assert code == f"# NOT TRANSLATED: nightly, task shop.report: its option {option} has no counterpart"


def test_a_printed_priority_says_what_it_is_over_redis() -> None:
    (code,) = as_code([Entry(name="nightly", task="shop.report", schedule=60, options={"priority": 4})])
    assert "over Redis: -4." in code.splitlines()[0]


def test_names_of_a_schedule_cannot_leave_their_comment() -> None:
    (code,) = as_code([Entry(name="a\nimport os", task="b\nimport os", schedule=7)])
    assert "\n" not in code


def test_long_and_odd_arguments_are_printed_whole() -> None:
    text = "a" * 100_000 + "\x1b\u202e\n"
    code = translated(10, args=[text])
    assert code.isascii()
    assert repr(text) in code


def test_the_command_prints_long_arguments_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A line with a note of what is left out would be no code."""
    text = "a" * 100_000 + "\x1b\u202e\n"
    print_declarations([Entry(name="nightly", task="shop.report", schedule=10, args=[text])], "UTC")
    assert repr(text) in capsys.readouterr().out


def test_printed_declarations_declare_what_the_beat_schedule_says() -> None:
    app = App(connector=InMemoryConnector())
    tasks = CeleryTasks(app)

    @tasks.task(name="shop.report")
    def report(kind: str, *, when: datetime.date) -> None: ...

    entries = read_beat_schedule(
        {
            "nightly": {
                "task": "shop.report",
                "schedule": crontab(minute=0, hour=4),
                "args": ("sales",),
                "kwargs": {"when": datetime.date(2030, 1, 2)},
                "options": {"queue": "reports", "priority": 4, "expires": 60},
                "relative": False,
            }
        }
    )
    (code,) = as_code(entries, "Europe/Paris")
    exec(code, {"app": app})
    ((_, periodic_id),) = [key for key in app.periodic_registry.periodic_tasks if key[0] == "shop.report"]
    periodic = app.periodic_registry.periodic_tasks["shop.report", "nightly"]
    assert periodic_id == "nightly"
    assert str(periodic.timezone) == "Europe/Paris"
    assert periodic.configure_kwargs["queue"] == "reports"
    assert periodic.configure_kwargs["priority"] == 4
    task_kwargs = periodic.configure_kwargs["task_kwargs"]
    assert task_kwargs is not None
    call = StoredCall.from_arguments(**task_kwargs, timestamp=1000)
    assert (call.args, call.kwargs) == (["sales"], {"when": datetime.date(2030, 1, 2)})
    assert call.expires == datetime.datetime.fromtimestamp(1060, datetime.UTC)


def test_the_command_finds_a_module_in_the_working_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "beats.py").write_text("SCHEDULE = {'nightly': {'task': 'shop.report', 'schedule': 3600}}")
    command = [str(pathlib.Path(sys.executable).with_name("procrastinate")), "celery-schedule", "beats.SCHEDULE"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "app.tasks['shop.report']" in done.stdout


def test_the_command_imports_the_tasks_of_an_app_with_routes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from celery import Celery\n"
        "app = Celery('shop', include=['work'])\n"
        "app.conf.task_routes = {'*': 'slow'}\n"
        "app.conf.beat_schedule = {one: {'task': one, 'schedule': 60} for one in ('own', 'routed')}\n"
    )
    (tmp_path / "work.py").write_text(
        "from shop import app\n"
        "@app.task(name='own', queue='fast')\n"
        "def own(): ...\n"
        "@app.task(name='routed')\n"
        "def routed(): ...\n"
    )
    command = [str(pathlib.Path(sys.executable).with_name("procrastinate")), "celery-schedule", "shop.app"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    own, routed = done.stdout.strip().split("\n\n")
    assert "queue=" not in own
    assert "queue='slow'" in routed
    (tmp_path / "work.py").write_text("1 / 0")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot import the tasks of the Celery app: ZeroDivisionError: ")


def test_the_command_says_that_a_dict_has_no_routes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "beats.py").write_text("SCHEDULE = {'nightly': {'task': 'shop.report', 'schedule': 3600}}")
    command = [str(pathlib.Path(sys.executable).with_name("procrastinate")), "celery-schedule", "beats.SCHEDULE"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("A dict has no task_routes: ")


def test_the_command_says_how_many_schedules_are_not_translated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    schedule = {name: {"task": "shop.report", "schedule": seconds} for name, seconds in (("a", 45), ("b", 60))}
    print_declarations(read_beat_schedule(schedule), "UTC")
    printed = capsys.readouterr()
    assert printed.out.count("app.periodic(") == 1
    assert printed.err == "1 of 2 schedules are not translated: look for # NOT TRANSLATED\n"
    print_declarations(read_beat_schedule({"b": schedule["b"]}), "UTC")
    assert capsys.readouterr().err == ""


def test_the_command_says_what_to_do_if_the_app_is_replaced_already(tmp_path: pathlib.Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from procrastinate import App\n"
        "from procrastinate.contrib.celery import CeleryTasks\n"
        "app = CeleryTasks(App(connector='postgresql:///shop'))\n"
    )
    command = [str(pathlib.Path(sys.executable).with_name("procrastinate")), "celery-schedule", "shop.app"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "but of type CeleryTasks. If the module has moved already, give the path of a copy" in done.stderr
