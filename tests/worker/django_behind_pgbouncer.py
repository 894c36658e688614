"""Defers and lists in threads through the pooler of Django's settings, and runs a worker until it listens around it.

The argument is the URL of the database without the pooler.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import django
import sqlalchemy as sa

django.setup()

from django.db import connection  # noqa: E402

from procrastinate.contrib.django import app  # noqa: E402
from procrastinate.contrib.django.models import ProcrastinateJob  # noqa: E402

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^LISTEN' AND datname = current_database()"


@app.task(name="each")
def each(number: int) -> None: ...


@app.task(name="stop")
def stop() -> None:
    """Stop the worker as soon as it listens."""
    engine, end = sa.create_engine(sys.argv[1], poolclass=sa.NullPool), time.monotonic() + 20
    with engine.connect() as direct:
        while not direct.execute(sa.text(LISTENING)).scalar():
            assert time.monotonic() < end, "No worker listens"
            direct.rollback()
            time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


def call(number: int) -> None:
    """Use the queue's calls and models, also those that read row by row."""
    for _ in range(40):
        each.defer(number=number)
        each.batch_defer({"number": 1}, {"number": 2})
        app.job_manager.list_jobs(queue="none")
        assert list(ProcrastinateJob.objects.order_by("id")[:3].iterator(chunk_size=2))
    connection.close()


with ThreadPoolExecutor(8) as pool:
    list(pool.map(call, range(8)))
stop.defer()
app.run_worker(fetch_job_polling_interval=600, concurrency=20)
ended = set(ProcrastinateJob.objects.values_list("status", flat=True))
assert ended == {"succeeded"}, ended
