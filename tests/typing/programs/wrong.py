"""What is wrong: every checker must complain about each line that is marked, and about no other."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from procrastinate import App, JobContext, RetryDecision, RetryStrategy
from procrastinate.testing import Jobs
from tests.typing.programs import tasks

tasks.bare.defer(c=1, a=1)  # wrong: there is no such argument
tasks.bare.defer(a="1")  # wrong: the type of an argument
tasks.bare.defer(b="x")  # wrong: an argument is missing
tasks.called.defer()  # wrong: an argument is missing
tasks.called.defer(a=None)  # wrong: the type of an argument
tasks.with_context.defer()  # wrong: an argument is missing
tasks.with_context.defer(context=None, a=1)  # wrong: the context comes from the worker
tasks.periodic.defer(a=1)  # wrong: there is no such argument
tasks.periodic_with_context.defer(a=1)  # wrong: there is no such argument
tasks.of_blueprint.defer(a=1, b=["1"])  # wrong: the type of an element
tasks.of_blueprint.defer(a=1)  # wrong: an argument is missing
tasks.bare.configure(locks="a")  # wrong: there is no such option
tasks.bare.configure(priority="high")  # wrong: the type of an option
tasks.bare.configure(schedule_in={"minute": 1})  # wrong: there is no such argument of timedelta
tasks.bare.batch_defer([{"a": 1}])  # wrong: dicts, not a list of them
tasks.bare(a="1")  # wrong: a call of the function is checked as well
tasks.app.configure_task("bare", queues="a")  # wrong: there is no such option
tasks.app.run_worker(concurency=3)  # wrong: there is no such option of a worker
tasks.app.run_worker(delete_jobs=True)  # wrong: the type of an option of a worker
RetryStrategy(max_attempt=1)  # wrong: there is no such argument
RetryDecision(retry_in={"minute": 1})  # wrong: there is no such argument of timedelta
App()  # wrong: a connector is missing


async def in_async_code() -> None:
    """The same in asynchronous code."""
    await tasks.bare.defer_async(a="1")  # wrong: the type of an argument
    await tasks.asynchronous.defer_async()  # wrong: an argument is missing
    await tasks.asynchronous.configure(lock=1).defer_async(a=1)  # wrong: the type of an option


def runs_jobs(jobs: Jobs) -> None:
    """What tests cannot do."""
    jobs.assert_deferred(tasks.bare, {"que": "q"})  # wrong: there is no such field
    jobs.assert_deferred(tasks.bare, {"priority": "high"})  # wrong: the type of a field
    jobs.run(until="the end")  # wrong: no such word
    jobs.run(queues=1)  # wrong: the type of an argument
    jobs.advance(hours="1")  # wrong: the type of an argument


@tasks.app.periodic(cron="* * * * *")  # wrong: the task takes no timestamp
@tasks.app.task
def without_timestamp() -> None:
    """A periodic task is given its tick."""


@tasks.app.task(pass_context=True)  # wrong: the task takes no context
def without_context(a: int) -> None:
    """A task that wants its context takes it first."""


@tasks.app.task(retry="yes")  # wrong: the type of an option
def with_wrong_option(context: JobContext) -> None:
    """An option of a declaration."""


async def in_transactions(context: JobContext, engine: AsyncEngine) -> None:
    """What opens none, and what opens one of the other kind."""
    context.transaction("postgresql://")  # wrong: a URL opens no transaction
    with context.transaction(engine):  # wrong: an asynchronous engine needs async with
        pass
    async with context.transaction(engine) as connection:
        connection.add(1)  # wrong: a connection is no session


def workflows() -> None:
    """The values and options of steps."""
    wf = tasks.app.workflow("import")
    page = wf.add(tasks.fetched, url="a")
    tasks.stored.call(number=page.value)  # wrong: the type of a result
    tasks.counted.call(texts=page.value)  # wrong: there is no such argument
    tasks.counted.call()  # wrong: an argument is missing
    wf.add(tasks.fetched, needs="luck", url="a")  # wrong: no such word
    tasks.app.workflow("import", if_failed="ignore")  # wrong: no such word
    number: int = page.value  # wrong: the type of a result
    tasks.stored.call(number=number, texts=[1])  # wrong: the type of an element
