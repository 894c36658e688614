"""The app that the commands name."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
with procrastinate.App(connector=os.environ["DATABASE_URL"]).open() as earlier:  # a program that ran before

    @earlier.task(name="shop.charge")
    def charge() -> None:
        """Fail."""
        raise ValueError("on purpose")

    if not list(earlier.job_manager.list_jobs()):
        charge.defer()
        earlier.run_worker(wait=False, install_signal_handlers=False, listen_notify=False)
        for _ in range(2):
            earlier.configure_task("shop.send", queue="mail", schedule_in={"hours": 1}).defer()
