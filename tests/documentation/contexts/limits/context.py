"""Sets up what the page on limits assumes: an app and its database."""

import os
import types

import sqlalchemy as sa

import procrastinate
from procrastinate import core
from procrastinate.limits import read_limits_of_queues
from procrastinate.testing import WorkerThread

engine = sa.create_engine(os.environ["DATABASE_URL"])
app = procrastinate.App(connector=engine)
app.open()
with engine.begin() as connection:  # as a worker that ran before has left them
    core.define_limits(
        connection,
        [
            core.LimitDefinition(name="openai", concurrency=5),
            core.LimitDefinition(name="github", rates=(core.RateTerms(10, 1.0),)),
        ],
    )
first_app = app
answers = [types.SimpleNamespace(status=429, headers={"Retry-After": "0.3"}), types.SimpleNamespace(status=200)]


def post_charge(account: str) -> types.SimpleNamespace:
    """Stand in for the service, which asks to wait once."""
    return answers.pop(0)


def at_the_end() -> None:
    """Check that the page's tasks run under their limits."""
    names = globals()
    names["summarize"].batch_defer({"text": "a"}, {"text": "b"})
    names["export"].defer(tenant="ann")
    names["call_github"].defer(account="ann")
    names["report"].defer(customer="ann")
    names["deliver"].defer(to="ann")
    names["charge"].defer(account="ann")
    with WorkerThread(first_app) as worker:
        worker.wait_until_done()
    assert not answers
    defined = {"exports", "github", "gpu", "mailer", "openai", "reports", "stripe", "sync"}
    assert {one.name for one in first_app.limits.list()} == defined
    assert read_limits_of_queues(names["PROCRASTINATE_LIMITS"]) == {"mail": names["mail"]}
    assert all(one.is_defined and one.in_line == 0 for one in first_app.limits.list())
