"""What the page takes for granted: an app and a job."""

import os

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()
job_id = app.configure_task("shop.send").defer()
