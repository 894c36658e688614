"""Sets up what the page on the database assumes: an app that is open."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()
