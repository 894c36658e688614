"""What the page on unique jobs takes for granted: an app."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def at_the_end() -> None:
    """The jobs of the page are there once, and run."""
    names = globals()
    names["import_all"].defer(timestamp=0)
    app.run_worker(wait=False)
    jobs = {job.task_name: job for job in app.job_manager.list_jobs() if job.task_name != "myapp.remind"}
    assert {name: job.status for name, job in jobs.items()} == {
        "myapp.sync": "succeeded",
        "myapp.index": "todo",
        "myapp.import_all": "succeeded",
    }
    assert jobs["myapp.index"].task_kwargs == {"page": "front", "version": 2}
    assert len(app.job_manager.list_jobs(task="myapp.remind")) == 2
    ids = [job.id for job in app.job_manager.list_jobs(task="myapp.remind", status="succeeded")]
    assert [names["remind"].defer(user_id=user_id) for user_id in (7, 8)] == ids
