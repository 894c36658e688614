"""Sets up what the page assumes: an engine."""

import base64
import json
import logging
import os

import sqlalchemy as sa

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])


def at_the_end() -> None:
    """With a cipher, the table does not have the value, and the task has it. A value in clear passes."""
    names, got = globals(), []
    names["encrypt"] = lambda text: base64.b64encode(text.encode()).decode()
    names["decrypt"] = lambda text: base64.b64decode(text).decode()
    app = procrastinate.App(connector=names["connector"])
    _check_what_the_table_has(app, got)
    _check_that_a_project_uses_the_functions(names["PROCRASTINATE"])


def _check_what_the_table_has(app: procrastinate.App, got: list[object]) -> None:
    @app.task(name="send", pass_context=True, store_result=True, keep_logs=True)
    def send(context, to, number=0):
        logging.getLogger("shop").warning("a line on %s", to)
        context.progress(1, 2, f"progress of {to}")
        got.append((to, number))
        if to == "bad":
            raise ValueError(f"error of {to}")
        return f"text of {to}" if number else {"key": f"value of {to}"}

    in_clear = procrastinate.App(connector=engine)
    with app.open(), in_clear.open():
        in_clear.configure_task("send", allow_unknown=True).defer(to="Clear", number=42)
        send.configure(lock="lock of ann").defer(to="ann")
        send.defer(to="bad")
        app.run_worker(wait=False)
    assert sorted(got) == [("Clear", 42), ("ann", 0), ("bad", 0)]
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT to_jsonb(j) AS row FROM procrastinate_jobs j ORDER BY id")).scalars()
        clear, ann, bad = list(rows)
        tables = sa.inspect(connection).get_table_names()
        others = json.dumps(
            [
                connection.execute(sa.select(sa.text(f"to_jsonb({name})::text")).select_from(sa.table(name)))
                .scalars()
                .all()
                for name in tables
            ]
        )
    assert clear["args"] == {"to": "Clear", "number": 42}
    assert "ann" not in json.dumps(ann["args"])
    assert "to" in ann["args"]
    assert "bad" not in json.dumps(bad["args"])
    assert ann["lock"] == "lock of ann"
    for text in ("progress of ann", "a line on ann", "error of bad", "text of Clear", "key"):
        assert text in others, text
    assert "value of ann" not in others


def _check_that_a_project_uses_the_functions(settings: dict[str, str]) -> None:
    import django
    from django.conf import settings as of_django

    of_django.configure(
        INSTALLED_APPS=["procrastinate.contrib.django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
        PROCRASTINATE=settings,
    )
    django.setup()
    from procrastinate.contrib.django import app

    assert app.connector.json_dumps is globals()["dumps"]
    assert app.connector.json_loads is globals()["loads"]
