"""The settings and the tasks of the programs for dj_queue. The import reads the request of the suite."""

from __future__ import annotations

import threading
from typing import Any

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers import driving

asked = driving.request()
LINE = "line"
"""A queue that no worker serves. Its jobs hold all slots of their keys."""
_KEYS = 1_000


def _make_settings() -> dict[str, Any]:
    url = conninfo_to_dict(asked["url"])
    worker = {"queues": "default", "threads": asked.get("concurrency", 10), "polling_interval": 0.01}
    database = {"NAME": url["dbname"], "USER": url["user"], "HOST": url["host"], "CONN_MAX_AGE": None}
    options = {"mode": "async", "workers": [worker], "dispatchers": [{"polling_interval": 0.1}]}
    return {
        "INSTALLED_APPS": ["dj_queue"],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", **database}},
        "TASKS": {"default": {"BACKEND": "dj_queue.backend.DjQueueBackend", "QUEUES": [], "OPTIONS": options}},
        "USE_TZ": True,
        "LOGGING_CONFIG": None,
    }


settings.configure(**_make_settings())
django.setup()

from dj_queue.api import concurrency  # noqa: E402 (Django needs its settings before)
from dj_queue.runtime.supervisor import AsyncSupervisor  # noqa: E402
from django.tasks import task  # noqa: E402

_adding = threading.Lock()
effects: list[driving.Effects] = []


def _count(number: int) -> None:
    with _adding:
        effects[-1].add(number)


def _key_of(number: int) -> str:
    return f"key {number % _KEYS}"


@task
def noop(number: int) -> None:
    """Count the run."""
    _count(number)


@task
@concurrency(key="hot ten", limit=10)  # type: ignore[untyped-decorator]
def hot_ten(number: int) -> None:
    """Count the run of one of ten jobs at a time."""
    _count(number)


@task
@concurrency(key="hot one", limit=1)  # type: ignore[untyped-decorator]
def hot_one(number: int) -> None:
    """Count the run of one job at a time."""
    _count(number)


@task
@concurrency(key=_key_of, limit=10)  # type: ignore[untyped-decorator]
def keys(number: int) -> None:
    """Count the run of one of ten jobs of a key at a time."""
    _count(number)


@task
@concurrency(key=lambda key: f"line {key}", limit=1, duration=24 * 3600)  # type: ignore[untyped-decorator]
def wait(key: int) -> None:
    """Stand for a job that waits for a slot of its key."""


@task
@concurrency(key=lambda number, way: f"key {number}" if way == "new key" else "held", limit=1, on_conflict="discard")  # type: ignore[untyped-decorator]
def unique(number: int, way: str) -> None:
    """Stand for a job that is discarded while another one has its key."""


def make_supervisor() -> AsyncSupervisor:
    """Return the worker and its helpers, as threads of this process."""
    return AsyncSupervisor.from_backend_config(backend_alias="default", standalone=False)


TASKS = {"noop": noop, "hot_ten": hot_ten, "hot_one": hot_one, "keys": keys}
