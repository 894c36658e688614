"""Tasks of a typed program, in all the ways to declare them."""

from __future__ import annotations

from procrastinate import App, Blueprint, JobContext, PsycopgConnector, RetryStrategy

app = App(connector=PsycopgConnector())
blueprint = Blueprint()


@app.task
def bare(a: int, b: str = "x") -> bool:
    """Declared without parentheses."""
    return bool(a) and bool(b)


@app.task(queue="mail", retry=RetryStrategy(max_attempts=3), lock="one", aliases=["old"])
def called(a: int) -> str:
    """Declared with options."""
    return str(a)


@app.task
async def asynchronous(a: int) -> str:
    """A coroutine function."""
    return str(a)


@app.task(pass_context=True)
def with_context(context: JobContext, a: int) -> None:
    """Its first argument comes from the worker."""
    print(context.job.id, a)


@app.periodic(cron="*/5 * * * *", periodic_id="five", queue="slow")
@app.task
def periodic(timestamp: int) -> None:
    """Its first argument is the tick."""


@app.periodic(cron="0 * * * *")
@app.task(pass_context=True)
async def periodic_with_context(context: JobContext, timestamp: int) -> None:
    """Both."""


@blueprint.task(name="of_the_blueprint")
def of_blueprint(a: int, *, b: list[int]) -> None:
    """A task of a blueprint."""


app.add_tasks_from(blueprint, namespace="ns")


@app.task(store_result=True)
def counted(text: str) -> int:
    """A task with a result."""
    return len(text)


@app.task(store_result=True)
async def fetched(url: str) -> str:
    """An asynchronous task with a result."""
    return url


@app.task
def stored(number: int, texts: list[str] | None = None) -> None:
    """A task that takes results."""
