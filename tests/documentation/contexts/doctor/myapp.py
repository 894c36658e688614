"""The app that the commands and the programs name."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
