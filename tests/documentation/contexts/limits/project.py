"""The app that the commands of the page name."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
