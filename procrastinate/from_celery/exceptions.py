"""What a task of a Celery project raises, and what its stand-in refuses."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator

from procrastinate import exceptions
from procrastinate._checks.times import require_aware
from procrastinate._pages import page

OPEN_THE_APP = (
    "open the app that was given to CeleryTasks, once at the start of the program: procrastinate_app.open(). "
    "In Flask, call init_app; in async code, await open_async()"
)
"""What a program does before its first call. Celery's app needs no such step."""


@contextlib.contextmanager
def needs_open_app() -> Iterator[None]:
    """Let the error of an app that is not open say how a program of Celery opens it.

    Raises
    ------
    AppNotOpen
        The block raises it.
    """
    try:
        yield
    except exceptions.AppNotOpen as error:
        raise exceptions.AppNotOpen(
            f"The app is not open: {OPEN_THE_APP}. See {page('from-celery', 'Tasks')}"
        ) from error


class NotSupported(exceptions.ProcrastinateException, NotImplementedError, AttributeError):
    """The stand-ins for Celery do not have this. The message names the way out.

    It is an ``AttributeError``, so that ``hasattr`` answers no.
    """


class Retry(exceptions.ProcrastinateException):
    """The task is to run again: raised by ``self.retry()``.

    Parameters
    ----------
    countdown:
        Seconds until then.
    eta:
        When, unless there is a ``countdown``: an aware datetime.
    queue, priority:
        New values for the job; ``None`` keeps what it has. A job of a higher priority runs first.

    Raises
    ------
    ValueError
        ``eta`` has no time zone.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        countdown: float | None = None,
        eta: datetime.datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
    ) -> None:
        require_aware("eta", eta)
        super().__init__(message or "The task is to run again")
        self.countdown = countdown
        self.eta = eta
        self.queue = queue
        self.priority = priority


class MaxRetriesExceededError(exceptions.ProcrastinateException):
    """The task was retried as often as it may be."""


class Ignore(exceptions.ProcrastinateException):
    """The task ends without a result: raised by the task. Its job has succeeded."""
