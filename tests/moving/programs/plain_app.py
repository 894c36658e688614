"""An app as users of 3.x have it. The same file runs on both releases."""

import asyncio
import os
import time

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DSN"]))


@app.task(name="add")
def add(a, b):
    return a + b


@app.task(name="fails")
def fails():
    raise ValueError("no")


@app.task(name="flaky", retry=procrastinate.RetryStrategy(max_attempts=3, wait=3600))
def flaky():
    raise ValueError("again")


@app.task(name="sleeps")
async def sleeps(seconds):
    await asyncio.sleep(seconds)


@app.task(name="notes", pass_context=True)
def notes(context, group=None, seconds=0):
    """Write down that the job starts and ends, in a table of the test's."""
    import psycopg

    with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
        insert = "INSERT INTO notes (job_id, what, group_name) VALUES (%s, %s, %s)"
        connection.execute(insert, [context.job.id, "start", group])
        time.sleep(seconds)
        connection.execute(insert, [context.job.id, "end", group])


@app.periodic(cron="0 0 1 1 *")
@app.task(name="yearly")
def yearly(timestamp):
    pass
