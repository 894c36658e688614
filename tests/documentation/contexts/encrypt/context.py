"""Sets up what the page assumes: an engine and imported names."""

import base64
import json
import os

import sqlalchemy as sa

import procrastinate
from procrastinate.adapters.standalone import SQLAlchemyConnector  # noqa: F401

engine = sa.create_engine(os.environ["DATABASE_URL"])


def at_the_end() -> None:
    """With a cipher, the table does not have the value, and the task has it."""
    names, got = globals(), []
    names["encrypt"] = lambda text: base64.b64encode(text.encode()).decode()
    names["decrypt"] = lambda text: base64.b64decode(text).decode()
    app = procrastinate.App(connector=names["connector"])

    @app.task(name="send")
    def send(to: str) -> None:
        got.append(to)

    with app.open():
        send.defer(to="ann")
        app.run_worker(wait=False)
    with engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT args FROM procrastinate_jobs")).scalar_one()
    assert (got, "ann" in json.dumps(stored)) == (["ann"], False)
