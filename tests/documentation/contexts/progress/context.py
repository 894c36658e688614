"""Sets up what the page assumes: an app that is open, and the check of the web application."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def owns(user_id: int, job_id: int) -> bool:
    """Return whether the job belongs to the user."""
    return user_id == 1


def at_the_end() -> None:
    """The page says that the job has ended, and how far it came."""
    app.run_worker(wait=False)
    answer = globals()["read_progress"](1, globals()["job_id"])
    assert (answer["has_ended"], answer["percent"]) == (True, 100.0)
    assert answer["message"] == "Page 3 is written"
