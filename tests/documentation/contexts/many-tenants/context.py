"""Sets up what the page on many tenants assumes: an app and its database."""

import os

import sqlalchemy as sa

import procrastinate

engine = sa.create_engine(os.environ["DATABASE_URL"])
app = procrastinate.App(connector=engine)
app.open()

STARTED = "SELECT job_id FROM procrastinate_events WHERE type = 'started' ORDER BY id"


def at_the_end() -> None:
    """Check that a small tenant starts early although a large one came first."""
    names = globals()
    for _ in range(30):
        names["report"].defer(tenant_id=1)
    small = names["report"].defer(tenant_id=2)
    names["call_crm"].defer(tenant_id=1)
    app.run_worker(wait=False, concurrency=4)
    assert all(job.status == "succeeded" for job in app.job_manager.list_jobs())
    with engine.connect() as connection:
        started = list(connection.execute(sa.text(STARTED)).scalars())
    assert started.index(small) < 10
