"""What the README's last example takes for granted: an app that is open."""

import os

import procrastinate

queue = procrastinate.App(connector=os.environ["DATABASE_URL"])
queue.open()


def at_the_end() -> None:
    """The jobs run."""
    queue.run_worker(wait=False)
    assert {job.status for job in queue.job_manager.list_jobs()} == {"succeeded", "todo"}
