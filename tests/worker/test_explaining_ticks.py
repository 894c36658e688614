"""Each reason why a periodic task has no job is made on a real database, and named."""

from __future__ import annotations

import time
from typing import Any

import pytest

from procrastinate import core
from procrastinate.app import App
from procrastinate.core.inspection import ReasonKind
from procrastinate.periodic import PeriodicDeferrer
from procrastinate.tick_explanation import TickExplanation, explain_last_tick, explain_last_tick_async
from tests.worker.running import Queue
from tests.worker.test_explaining import register

YEARLY = "0 0 1 1 *"


def declare(app: App, cron: str = YEARLY, periodic_id: str = "", **options: Any) -> None:
    """Declare a periodic task."""

    @app.periodic(cron=cron, periodic_id=periodic_id)
    @app.task(name="report", **options)
    def report(timestamp: int) -> None: ...


async def explain(app: App) -> TickExplanation:
    """Return what became of the last tick."""
    return await explain_last_tick_async(app, "report")


async def codes(app: App) -> list[str]:
    """Return the codes of all reasons, without the next tick."""
    explanation = await explain(app)
    assert [check for check in explanation.checks if check.error] == []
    return [reason.code for reason in explanation.reasons if reason.code != "next-tick"]


async def defer_last_tick(app: App) -> None:
    """Defer the last tick, however old it is."""
    deferrer = PeriodicDeferrer(app.periodic_registry, 1e9, app.job_manager)
    await deferrer.defer_jobs(deferrer.get_previous_tasks(time.time()))


async def test_a_schedule_that_this_program_does_not_declare(app: App, queue: Queue) -> None:
    register(queue)
    explanation = await explain(app)
    assert [(reason.code, reason.kind) for reason in explanation.reasons] == [("not-declared", ReasonKind.MISSING)]


async def test_a_tick_that_no_worker_was_there_for(app: App, queue: Queue) -> None:
    declare(app)
    assert await codes(app) == ["no-worker", "tick-missed"]
    register(queue)
    assert await codes(app) == ["tick-missed"]
    assert (await explain(app)).reasons[-1].code == "next-tick"


async def test_a_schedule_that_is_not_in_the_code_of_the_workers(app: App, queue: Queue) -> None:
    declare(app, "* * * * * *")
    core.keep_task_list(queue.connection, hash="a hash", tasks=["other"])
    register(queue, task_list="a hash")
    assert await codes(app) == ["schedule-in-no-worker", "tick-soon"]


async def test_a_tick_that_live_workers_do_not_defer(app: App, queue: Queue) -> None:
    declare(app)
    app.periodic_defaults = {"max_delay": 1e9}
    register(queue)
    assert await codes(app) == ["tick-late"]


async def test_a_tick_that_was_deferred_names_its_job(app: App, queue: Queue) -> None:
    declare(app, queue="mail")
    register(queue)
    await defer_last_tick(app)
    assert await codes(app) == ["tick-deferred"]
    await app.queues.pause_async("mail", reason="The server is down")
    assert await codes(app) == ["queue-paused", "tick-deferred"]
    (reason, *_) = (await explain(app)).reasons
    assert reason.advice == "`procrastinate queues resume mail`, or app.queues.resume('mail')"


async def test_a_tick_that_was_skipped_for_a_queueing_lock(app: App, queue: Queue) -> None:
    declare(app, queueing_lock="one at a time")
    waiting = await app.configure_task("report", queueing_lock="one at a time").defer_async(timestamp=0)
    register(queue)
    await defer_last_tick(app)
    explanation = await explain(app)
    assert explanation.headline.code == "tick-skipped"
    assert f"job {waiting} " in explanation.headline.text


async def test_a_tick_whose_job_is_gone_may_have_been_skipped(app: App, queue: Queue) -> None:
    declare(app)
    register(queue)
    await defer_last_tick(app)
    queue.sql("DELETE FROM procrastinate_jobs")
    assert await codes(app) == ["tick-skipped-or-deleted"]


def test_a_task_with_several_schedules_needs_their_id(app: App) -> None:
    declare(app, periodic_id="a")
    app.periodic(cron="* * * * *", periodic_id="b")(app.tasks["report"])
    with pytest.raises(ValueError, match="'a', 'b'"):
        explain_last_tick(app, "report")
