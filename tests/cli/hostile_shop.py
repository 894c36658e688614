"""An app whose names and texts control a terminal: ``tests.cli.hostile_shop.app``."""

from __future__ import annotations

import logging
import os

import procrastinate

EVIL = "\x1b[35mEVIL\x07\x1b]0;title\x07\x1b[2J\u202e\r\nnext line"
"""Sets a colour that this project does not use, rings, changes the title and the direction of writing, and clears."""

app = procrastinate.App(connector=os.environ.get("TESTS_CLI_DATABASE_URL", "postgresql+psycopg:///none?host=/nowhere"))
BEAT_SCHEDULE = {
    EVIL: {"task": EVIL, "schedule": 60, "kwargs": {"text": EVIL}},
    f"{EVIL}2": {"task": "a", "schedule": 7},
}


@app.task(name=f"fail {EVIL}", queue=f"queue {EVIL}", keep_logs=True)
def fail(text: str) -> None:
    """Log, and fail with a text of two lines."""
    logging.getLogger(f"shop {EVIL}").warning("said %s", text)
    raise RuntimeError(text)


@app.periodic(cron="0 0 1 1 *", periodic_id=EVIL)
@app.task(name=f"yearly {EVIL}")
def yearly(timestamp: int) -> None:
    """Do nothing, once a year."""


@app.task(name=f"limited {EVIL}", limit=procrastinate.Limit(f"limit {EVIL}", by=EVIL, concurrency=1))
def limited() -> None:
    """Do nothing, one at a time."""


@app.task(name=f"unique {EVIL}", unique=procrastinate.Unique(by=EVIL, until="end"))
def unique() -> None:
    """Do nothing, once at a time."""


def fill() -> None:
    """Run jobs of these tasks, and leave others waiting."""
    with app.open():
        fail.defer(text=EVIL)
        limited.defer()
        workflow = app.workflow(f"workflow {EVIL}")
        first = workflow.add(limited, step=f"first {EVIL}")
        workflow.add(limited, step=f"second {EVIL}", after=[first])
        workflow.defer()
        app.run_worker(wait=False, name=f"worker {EVIL}", listen_notify=False, install_signal_handlers=False)
        app.configure_task(f"gone {EVIL}", queue=f"gone {EVIL}", lock=EVIL, queueing_lock=EVIL).defer(text=EVIL)
        limited.configure(schedule_in={"days": 1}).defer()
        unique.configure(schedule_in={"days": 1}).defer()
        app.queues.pause(f"queue {EVIL}", reason=EVIL, by=EVIL)
