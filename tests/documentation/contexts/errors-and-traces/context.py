"""Sets up what the page assumes: an app that is open, and stand-ins for the names of two packages."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()

captured: list[Exception] = []
parents: list[Any] = []
capture_exception = captured.append


def inject(carrier: dict[str, str]) -> None:
    """Write the trace, as OpenTelemetry does."""
    carrier["traceparent"] = "00-1"


def extract(carrier: dict[str, str]) -> str | None:
    """Read the trace, as OpenTelemetry does."""
    return carrier.get("traceparent")


class tracer:
    """Has the one method that the page calls."""

    @staticmethod
    @contextlib.contextmanager
    def start_as_current_span(name: str, context: Any) -> Iterator[None]:
        """Remember the parent."""
        parents.append((name.rpartition(".")[2], context))
        yield


@app.task(name="fail")
def fail() -> None:
    raise ValueError("on purpose")


@app.task(name="fail_async")
async def fail_async() -> None:
    raise ValueError("on purpose")


def at_the_end() -> None:
    """Both errors are reported, and the span has its parent."""
    fail.defer()
    fail_async.defer()
    app.run_worker(wait=False)
    assert (len(captured), parents) == (2, [("charge", "00-1")])
