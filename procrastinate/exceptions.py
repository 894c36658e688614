"""What can go wrong, as a tree.

::

    ProcrastinateException
    ├── TaskNotFound                    no such task is known here
    ├── UnboundTaskError                the task's blueprint belongs to no app
    ├── TaskAlreadyRegistered           two tasks want one name
    ├── MiddlewareKindMismatch          sync middleware for an async task, or the reverse
    ├── LoadFromPathError (ImportError) a dotted path leads nowhere
    ├── JobRetry                        raised by a retry strategy, not by users
    ├── JobAborted                      raised by a task that stops because it was asked to
    ├── JobNotHeld                      a job was taken from the worker whose task would commit
    ├── TaskExit                        sys.exit() in an asyncio task that a job had started
    ├── TaskTimeout (TimeoutError)      a run took longer than the timeout of its task
    ├── InvalidResult (ValueError)      what a task returned cannot be kept
    ├── ResultNotAvailable              the job has no return value
    ├── WaitTimeout (TimeoutError)      the job that was waited for has not ended in time
    ├── WorkerProcessFailed             a worker process could not start, or did not end well
    ├── WorkerLost                      the error of a run that nobody saw the end of: recorded, and never raised
    ├── JobNotCommitted                 the job that was waited for is in the caller's own open transaction
    ├── AppNotOpen                      the app has no connection yet
    ├── InvalidJob (ValueError)         a job's argument, queue, lock or time cannot be stored
    ├── ConnectorException              the database refused, or cannot be reached
    │   ├── UniqueViolation
    │   ├── NoResult                    there is no such job
    │   ├── JobNotRetriable             the job is not in a state from which it can be retried
    │   ├── SchemaNotApplied            the tables are missing, or older than this release
    │   ├── SchemaConflict              the schema cannot be applied to what the database has
    │   │   └── TablesOf3x              the tables are those of Procrastinate 3.x
    │   ├── UnfitSettings               a setting of the role or the database keeps workers from their work
    │   └── DatabaseUnavailable         the database cannot be reached
    ├── AlreadyEnqueued                 a job waits under the same queueing lock
    ├── MissingApp
    ├── SyncConnectorConfigurationError
    ├── CallerModuleUnknown
    ├── RunTaskError
    ├── InvalidTimestamp
    ├── FunctionPathError
    └── MovedElsewhere

Errors of the driver are kept in ``__cause__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate._quoting import quoted_lines

if TYPE_CHECKING:
    from procrastinate.retry import RetryDecision


class ProcrastinateException(Exception):
    """Unexpected Procrastinate error."""

    def __init__(self, message: str | None = None, *args: Any) -> None:
        # Messages repeat names and locks of rows, and what the server says of them. Uncaught, they reach a terminal.
        text = message or " ".join((type(self).__doc__ or "").split())
        super().__init__(quoted_lines(text) if isinstance(text, str) else text, *args)


class TaskNotFound(ProcrastinateException):
    """No task of that name is registered in this app."""


class UnboundTaskError(ProcrastinateException):
    """The task was deferred before its blueprint was added to an app: call app.add_tasks_from(blueprint, ...) first."""


class TaskAlreadyRegistered(ProcrastinateException):
    """A task of that name is registered already."""


class MiddlewareKindMismatch(ProcrastinateException):
    """A task middleware must be async for an async task, and sync for a sync task."""


class LoadFromPathError(ProcrastinateException, ImportError):
    """The dotted path does not lead to an object of the expected kind."""


class JobRetry(ProcrastinateException):
    """The job should be tried again."""

    def __init__(self, retry_decision: RetryDecision) -> None:
        super().__init__()
        self.retry_decision = retry_decision


class JobAborted(ProcrastinateException):
    """The job stops because it was asked to."""


class JobNotHeld(ProcrastinateException):
    """The job is no longer this worker's: what the task wrote in its transaction is rolled back."""


class TaskExit(ProcrastinateException):
    """SystemExit or KeyboardInterrupt was raised in an asyncio task that a job had started: see ``__cause__``."""


class TaskTimeout(ProcrastinateException, TimeoutError):
    """The run took longer than the timeout of its task."""


class InvalidResult(ProcrastinateException, ValueError):
    """What the task returned cannot be kept."""


class ResultNotAvailable(ProcrastinateException):
    """The job has no return value."""


class WaitTimeout(ProcrastinateException, TimeoutError):
    """The job has not ended in time."""


class WorkerProcessFailed(ProcrastinateException):
    """A worker process could not start, or did not end well."""


class WorkerLost(ProcrastinateException):
    """The worker that ran the job is gone. Recorded as the error of that attempt; nothing raises it."""


class JobNotCommitted(ProcrastinateException):
    """The job was deferred or changed in a transaction that is still open: no worker can take it before its commit."""


class AppNotOpen(ProcrastinateException):
    """The app is not open: call app.open() or await app.open_async() first (or use them in a with statement)."""


class InvalidJob(ProcrastinateException, ValueError):
    """The job cannot be stored as it is."""


class ConnectorException(ProcrastinateException):
    """The database could not do what was asked."""


class UniqueViolation(ConnectorException):
    """A unique constraint was violated."""

    def __init__(self, *args: Any, constraint_name: str | None = None, queueing_lock: str | None = None) -> None:
        super().__init__(*args)
        self.constraint_name = constraint_name
        self.queueing_lock = queueing_lock


class NoResult(ConnectorException):
    """There is no such row."""


class JobNotRetriable(ConnectorException):
    """Only a failed job, or one in progress whose worker is lost, can be retried."""


class SchemaNotApplied(ConnectorException):
    """The tables are missing or too old: run `procrastinate schema --apply` (or `manage.py migrate` in Django)."""


class SchemaConflict(ConnectorException):
    """The schema cannot be applied to what the database has."""


class UnfitSettings(ConnectorException):
    """A setting of the role or the database keeps workers from their work."""


class TablesOf3x(SchemaConflict):
    """The tables are of Procrastinate 3.x, and this release cannot take them over: let the workers of 3.x finish their
    jobs, and drop the tables; or apply the schema to another database, or to another PostgreSQL schema (search_path).
    """


class DatabaseUnavailable(ConnectorException):
    """The database cannot be reached."""


class AlreadyEnqueued(ProcrastinateException):
    """A job is waiting under the same queueing lock."""


class MissingApp(ProcrastinateException):
    """No app was given: use --app, or the PROCRASTINATE_APP environment variable."""


class SyncConnectorConfigurationError(ProcrastinateException):
    """This connector cannot be used from synchronous code."""


class CallerModuleUnknown(ProcrastinateException):
    """The module that calls cannot be determined."""


class RunTaskError(ProcrastinateException):
    """One or several jobs ended in failure."""


class InvalidTimestamp(ProcrastinateException):
    """The periodic job was deferred for a tick that is not valid."""


class FunctionPathError(ProcrastinateException):
    """The full path of a function cannot be determined: give the task a name."""


class MovedElsewhere(ProcrastinateException):
    """The object has moved to another module."""
