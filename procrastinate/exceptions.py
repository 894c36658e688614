"""The exceptions of Procrastinate, as a tree.

::

    ProcrastinateException
    ├── TaskNotFound                    this app has no such task
    ├── UnboundTaskError                the task's blueprint belongs to no app
    ├── TaskAlreadyRegistered           two tasks want one name
    ├── MiddlewareKindMismatch          sync middleware for an async task, or the reverse
    ├── LoadFromPathError (ImportError) a dotted path leads nowhere
    ├── MissingExtra (ImportError)      a package that an extra installs is not installed
    ├── JobRetry                        raised by a retry strategy, not by users
    ├── JobAborted                      raised by a task that stops after an abort request
    ├── JobNotHeld                      the worker lost the job before its task could commit
    ├── TaskExit                        sys.exit() in an asyncio task that a job had started
    ├── TaskTimeout (TimeoutError)      a run took longer than the timeout of its task
    ├── InvalidResult (ValueError)      the return value of a task cannot be stored
    ├── ResultNotAvailable              the job has no return value
    ├── WaitTimeout (TimeoutError)      the awaited job has not finished in time
    ├── WorkerProcessFailed             a worker process could not start, or ended with an error
    ├── WorkerLost                      recorded as the error of a run whose worker died, and never raised
    ├── JobNotCommitted                 the awaited job is in the caller's own open transaction
    ├── AppNotOpen                      the app has no connection yet
    ├── InvalidJob (ValueError)         a job's argument, queue, lock or time cannot be stored
    ├── ConnectorException              the database refused, or cannot be reached
    │   ├── UniqueViolation
    │   ├── NoResult                    the job does not exist
    │   ├── NoStack                     the job does not run, or its worker has not told its stack
    │   ├── JobNotRetriable             the job is neither failed nor running
    │   ├── JobNotFinishable            the job has ended, or another worker has it
    │   ├── SchemaNotApplied            the tables are missing, or older than this release
    │   │   └── TablesOf3x              the tables are those of Procrastinate 3.x
    │   ├── MissingGrant                the role of the worker lacks rights on the tables
    │   ├── SchemaConflict              the schema conflicts with objects in the database
    │   ├── UnfitSettings               a setting of the role or the database keeps workers from their work
    │   └── DatabaseUnavailable         the database cannot be reached
    │       └── ReplicaBehind           the replica is too old to read, and the primary is not to be asked
    ├── InvalidWorkflow (ValueError)    a workflow cannot run as it was built
    ├── WorkflowNotFound                there is no such workflow or signal
    ├── WorkflowEnded                   the workflow has ended, and cannot be added to, cancelled or signalled
    ├── SignalTimeout                   recorded as the error of a signal that did not come in time
    ├── StepNotReached                  recorded as the error of a step that needs another one, and never raised
    ├── AlreadyEnqueued                 a waiting job has the same queueing lock
    ├── MissingApp
    ├── SyncConnectorConfigurationError
    ├── CallerModuleUnknown
    ├── RunTaskError
    ├── InvalidTimestamp
    ├── FunctionPathError
    └── MovedElsewhere

``__cause__`` holds the error of the database driver.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from procrastinate._pages import page
from procrastinate._quoting import quoted_lines
from procrastinate.types import RetryTerms


class ProcrastinateException(Exception):
    """Unexpected Procrastinate error."""

    advice: ClassVar[str] = ""
    """What to do, after the docstring in the default message. It is there, too, if Python runs without docstrings."""

    def __init__(self, message: str | None = None, *args: Any) -> None:
        # Messages repeat names and locks from rows, and texts of the server. An uncaught one is printed to a terminal.
        text = message or self.default_message()
        super().__init__(quoted_lines(text) if isinstance(text, str) else text, *args)

    @classmethod
    def default_message(cls) -> str:
        """Return the message of an error without one: its docstring and the advice.

        ``python -OO`` drops docstrings. The words of the name of the class stand in for it.
        """
        what = " ".join((cls.__doc__ or "").split()) or f"{_BEFORE_WORD.sub(' ', cls.__name__).capitalize()}."
        return f"{what.removesuffix('.')}: {cls.advice}" if cls.advice else what


_BEFORE_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


class TaskNotFound(ProcrastinateException):
    """No task with this name is registered in this app."""


class UnboundTaskError(ProcrastinateException):
    """The task was deferred before its blueprint was added to an app."""

    advice = "call app.add_tasks_from(blueprint, ...) first."


class TaskAlreadyRegistered(ProcrastinateException):
    """A task with this name is already registered."""


class MiddlewareKindMismatch(ProcrastinateException):
    """A task middleware must be async for an async task, and sync for a sync task."""


class LoadFromPathError(ProcrastinateException, ImportError):
    """The dotted path does not lead to an object of the expected kind."""


class MissingExtra(ProcrastinateException, ImportError):
    """A package that this needs is not installed."""

    def __init__(self, message: str | None = None, *args: Any, name: str | None = None) -> None:
        super().__init__(message, *args)
        self.name = name


class JobRetry(ProcrastinateException):
    """The job must be retried."""

    def __init__(self, retry_decision: RetryTerms) -> None:
        super().__init__()
        self.retry_decision = retry_decision


class JobAborted(ProcrastinateException):
    """The job stops after an abort request."""


class JobNotHeld(ProcrastinateException):
    """This worker no longer holds the job: the transaction of its task is rolled back."""


class TaskExit(ProcrastinateException):
    """SystemExit or KeyboardInterrupt was raised in an asyncio task that a job had started: see ``__cause__``."""


class TaskTimeout(ProcrastinateException, TimeoutError):
    """The run took longer than the timeout of its task."""


class InvalidResult(ProcrastinateException, ValueError):
    """The return value of the task cannot be stored."""


class ResultNotAvailable(ProcrastinateException):
    """The job has no return value."""


class WaitTimeout(ProcrastinateException, TimeoutError):
    """The job has not finished in time."""


class WorkerProcessFailed(ProcrastinateException):
    """A worker process could not start, or ended with an error."""


class WorkerLost(ProcrastinateException):
    """The worker that ran the job is gone. This is recorded as the error of the attempt and never raised."""


class JobNotCommitted(ProcrastinateException):
    """The job was deferred or changed in a transaction that is still open: no worker can claim it before the commit."""


class AppNotOpen(ProcrastinateException):
    """The app is not open."""

    advice = "call app.open() or await app.open_async() first (or use them in a with statement)."


class InvalidJob(ProcrastinateException, ValueError):
    """The job cannot be stored as it is."""


class ConnectorException(ProcrastinateException):
    """The database refused the operation or cannot be reached."""


class UniqueViolation(ConnectorException):
    """A unique constraint was violated."""

    def __init__(self, *args: Any, constraint_name: str | None = None, queueing_lock: str | None = None) -> None:
        super().__init__(*args)
        self.constraint_name = constraint_name
        self.queueing_lock = queueing_lock


class NoResult(ConnectorException):
    """The row does not exist."""


class NoStack(ConnectorException):
    """The job does not run, or its worker has not told its stack in time."""


class JobNotRetriable(ConnectorException):
    """Only a failed job, or a running job whose worker is lost, can be retried."""


class JobNotFinishable(ConnectorException):
    """Only a job in "doing" or "todo" status can be finished, and only by the worker that has it."""


class SchemaNotApplied(ConnectorException):
    """The tables are missing or too old."""

    advice = "run `procrastinate schema --apply` (or `manage.py migrate` in Django)."


class MissingGrant(ConnectorException):
    """The role of the connection lacks rights on the tables."""


class SchemaConflict(ConnectorException):
    """The schema conflicts with objects in the database."""


class UnfitSettings(ConnectorException):
    """A setting of the role or the database keeps workers from their work."""


class TablesOf3x(SchemaNotApplied):
    """The tables are of Procrastinate 3.x, and are not upgraded yet."""

    advice = f"{SchemaNotApplied.advice} Jobs, workers and writers of 3.x stay: see {page('moving-in')}."


class DatabaseUnavailable(ConnectorException):
    """The database cannot be reached."""


class ReplicaBehind(DatabaseUnavailable):
    """The replica is further behind the primary than the app allows, and the app is not to ask the primary."""


class AlreadyEnqueued(ProcrastinateException):
    """A waiting job has the same queueing lock, or another job holds the same unique key.

    ``job_id`` is the id of the job that holds the unique key. It is ``None`` for a queueing lock, and if this
    transaction cannot see that job.
    """

    def __init__(self, *args: Any, job_id: int | None = None) -> None:
        super().__init__(*args)
        self.job_id = job_id


class MissingApp(ProcrastinateException):
    """No app was given."""

    advice = "use --app, or the PROCRASTINATE_APP environment variable."


class SyncConnectorConfigurationError(ProcrastinateException):
    """This connector cannot be used from synchronous code."""


class CallerModuleUnknown(ProcrastinateException):
    """The calling module cannot be determined."""


class RunTaskError(ProcrastinateException):
    """One or more jobs failed."""


class InvalidTimestamp(ProcrastinateException):
    """The timestamp of the periodic job is not its tick."""


class FunctionPathError(ProcrastinateException):
    """The full path of a function cannot be determined: give the task a name."""


class MovedElsewhere(ProcrastinateException):
    """The object has moved to another module."""


class InvalidWorkflow(ProcrastinateException, ValueError):
    """A workflow that cannot run as it was built. The message names the step and says what is wrong."""


class WorkflowNotFound(ProcrastinateException):
    """There is no such workflow, or it has no such signal."""


class WorkflowEnded(ProcrastinateException):
    """The workflow, or the group of it, has ended or was cancelled."""


class SignalTimeout(ProcrastinateException):
    """A signal of a workflow did not come in time."""


class StepNotReached(ProcrastinateException):
    """A step was cancelled, because a step whose success it needs did not succeed. It is stored as the step's error."""
