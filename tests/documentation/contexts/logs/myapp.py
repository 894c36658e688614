"""The app that the command names."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
