"""Sets up what the page assumes: two keys, and a cipher if ``cryptography`` is not installed."""

import importlib.util
import json
import os
import sys
import types

import sqlalchemy as sa

import procrastinate
from procrastinate.adapters.standalone import SQLAlchemyConnector

if importlib.util.find_spec("cryptography") is None:
    import fernet_stand_in

    sys.modules["cryptography"] = types.ModuleType("cryptography")
    sys.modules["cryptography.fernet"] = fernet_stand_in

from cryptography.fernet import Fernet, MultiFernet

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
os.environ["QUEUE_KEYS"] = f"{NEW} {OLD}"

engine = sa.create_engine(os.environ["DATABASE_URL"])
got: list[object] = []


def _stored(column: str, table: str, job_id: int) -> object:
    key = "id" if table == "procrastinate_jobs" else "job_id"
    query = sa.select(sa.text(column)).select_from(sa.text(table)).where(sa.column(key) == job_id)
    with engine.connect() as connection:
        return connection.execute(query).scalar()


def _declare(app: procrastinate.App) -> None:
    @app.task(name="send", store_result=True)
    def send(to: object) -> object:
        got.append(to)
        return [to]


def at_the_end() -> None:
    """Check clear, encrypted, old and lost values, then a Django project on the same tables."""
    app: procrastinate.App = globals()["app"]
    clear = procrastinate.App(connector=SQLAlchemyConnector(os.environ["DATABASE_URL"]))
    _declare(app)
    with clear.open(), app.open():
        for value in ("Ann", 42, None, {"to": "Ann"}, ["Ann"]):
            clear.configure_task("send", allow_unknown=True).defer(to=value)
        secret = app.configure_task("send").defer(to="Bob")
        app.run_worker(wait=False)
        assert got == ["Ann", 42, None, {"to": "Ann"}, ["Ann"], "Bob"]
        for column, table in (("args", "procrastinate_jobs"), ("value", "procrastinate_results")):
            text = json.dumps(_stored(column, table, secret))
            assert "encrypted:" in text
            assert "Bob" not in text
        assert app.job_manager.get_result(secret).value == ["Bob"]
        _keys(app)
    _on_engine()
    _workflow(app)
    _locks(app)
    _django()


def _on_engine() -> None:
    """An app on an engine encrypts and decrypts, too."""
    app: procrastinate.App = globals()["app_on_engine"]
    _declare(app)
    with app.open():
        secret = app.configure_task("send").defer(to="Dan")
        assert "Dan" not in json.dumps(_stored("args", "procrastinate_jobs", secret))
        app.run_worker(wait=False)
    assert got[-1] == "Dan"


def _keys(app: procrastinate.App) -> None:
    """A job of the old key runs, and one of a lost key fails before its task is called."""
    import ciphers

    ring, count = ciphers.ring, len(got)
    ciphers.ring = MultiFernet([Fernet(OLD)])
    old = app.configure_task("send").defer(to="old")
    ciphers.ring = MultiFernet([Fernet(Fernet.generate_key())])
    lost = app.configure_task("send").defer(to="lost")
    ciphers.ring = ring
    app.run_worker(wait=False)
    assert got[count:] == ["old"]
    assert [_stored("status", "procrastinate_jobs", one) for one in (old, lost)] == ["succeeded", "failed"]


def _workflow(app: procrastinate.App) -> None:
    """The result of a step reaches the next step."""
    with app.open():
        workflow = app.workflow("letters")
        first = workflow.add(app.tasks["send"], to="first")
        workflow.add(app.tasks["send"], to=first.value)
        workflow.defer()
        app.run_worker(wait=False)
    assert got[-2:] == ["first", ["first"]]


def _locks(app: procrastinate.App) -> None:
    """A lock of arguments differs for each job, and that of a function does not."""
    locks = []
    with app.open():
        for lock in (procrastinate.by_arguments("to"), lambda given: f"customer {given['to']}"):
            task = app.configure_task("send", lock=lock)
            locks.append({_stored("lock", "procrastinate_jobs", task.defer(to="Ann")) for _ in range(2)})
    assert len(locks[0]) == 2
    assert locks[1] == {"customer Ann"}


def _django() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django

    django.setup()
    from procrastinate.contrib.django import app

    _declare(app)
    secret = app.configure_task("send").defer(to="Eve")
    assert "Eve" not in json.dumps(_stored("args", "procrastinate_jobs", secret))
    app.run_worker(wait=False)
    assert "Eve" in got
