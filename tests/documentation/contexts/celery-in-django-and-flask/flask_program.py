"""Charges orders through the view and through a session, and runs the jobs as a worker does."""

import os

import sqlalchemy as sa
from bookshop import charge, create_app
from make_celery import procrastinate_app
from sqlalchemy.orm import Session

client = create_app().test_client()
assert client.post("/orders/1/charge").get_json()["job"].isdigit()
engine = sa.create_engine(os.environ["DATABASE_URL"])
with Session(engine) as session:
    charge.apply_async((2,), connection=session)
    session.rollback()
    charge.apply_async((3,), connection=session)
    session.commit()
procrastinate_app.run_worker(wait=False)
