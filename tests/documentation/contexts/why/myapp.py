"""The app that the commands and the programs name."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
with procrastinate.App(connector=os.environ["DATABASE_URL"]).open() as earlier:  # a program that ran before
    if not list(earlier.job_manager.list_jobs()):
        for _ in range(7):
            earlier.configure_task("shop.send", queue="mail", schedule_in={"hours": 1}).defer()
