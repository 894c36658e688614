"""Sets up what the page assumes: an app that is open."""

import contextvars  # noqa: F401
import os

import django
import sqlalchemy as sa
from django.conf import settings

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()

address = sa.make_url(os.environ["DATABASE_URL"])


def entry(schema: str) -> dict[str, object]:
    """Return an entry of DATABASES. A schema of its own does for a database of its own."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": address.database,
        "USER": address.username,
        "HOST": address.query.get("host") or address.host,
        "PORT": address.query.get("port") or address.port or "",
        "OPTIONS": {"options": f"-c search_path={schema}"},
    }


engine = sa.create_engine(os.environ["DATABASE_URL"])
with engine.begin() as connection:
    for name in ("north", "south"):
        connection.execute(sa.schema.CreateSchema(name))
settings.configure(
    INSTALLED_APPS=["procrastinate.contrib.django"],
    USE_TZ=True,
    DATABASES={"default": entry("public"), "north": entry("north"), "south": entry("south")},
)
django.setup()


def at_the_end() -> None:
    """The task has seen its tenant."""
    globals()["bill"].store_result = True
    app.run_worker(wait=False)
    (job,) = app.job_manager.list_jobs()
    assert app.job_manager.get_result(job.id or 0).value == "bill of acme"
    shards, middleware = globals()["shards"], [globals()["close_db_connections"]]
    procrastinate.run_workers(shards.values(), slots=10, wait=False, task_middleware=middleware)
    assert [job.status for job in shards["north"].job_manager.list_jobs()] == ["succeeded"]
    assert list(shards["south"].job_manager.list_jobs()) == []
