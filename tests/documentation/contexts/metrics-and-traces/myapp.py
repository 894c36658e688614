"""The app that the commands name."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
