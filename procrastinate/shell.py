"""An interactive shell to inspect the queue, and to retry and cancel jobs."""

from __future__ import annotations

import cmd
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from procrastinate import exceptions
from procrastinate._quoting import LONGEST_VALUE, indented, quoted
from procrastinate._text.terminal import is_terminal, say, say_table
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

_PAGE = 500
_FILTERS = ("id", "queue", "task", "status", "lock", "queueing_lock")
_COUNT_FILTERS = ("queue", "task", "status", "lock")
_COUNTED = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")
_COLOURS = {"failed": "red", "aborted": "red", "doing": "blue", "succeeded": "green", "cancelled": "dim"}


class ShellError(exceptions.ProcrastinateException):
    """The shell command cannot be executed."""


class ProcrastinateShell(cmd.Cmd):
    """Commands on one queue: ``list_jobs``, ``list_queues``, ``list_tasks``, ``list_locks``, ``result``,
    ``retry``, ``cancel``.

    Parameters
    ----------
    job_manager:
        The job manager of an open app.
    """

    intro = "Type help or ? to list the commands."
    prompt = "procrastinate> "

    def __init__(self, job_manager: JobManager) -> None:
        super().__init__()
        self._jobs = job_manager
        self._tables = is_terminal(sys.stdout)

    def run_one(self, line: str) -> None:
        """Execute one command.

        Raises
        ------
        ShellError
            The command does not exist, or its arguments are invalid.
        """
        super().onecmd(line)

    def onecmd(self, line: str) -> bool:
        """Execute one command. Print errors and continue."""
        try:
            return bool(super().onecmd(line))
        except (exceptions.ProcrastinateException, ValueError) as error:
            say(indented(f"Error: {error}"), sys.stderr)
            return False

    def emptyline(self) -> bool:
        """Do nothing. The default would repeat the last command."""
        return False

    def default(self, line: str) -> None:
        """Raise ``ShellError`` for an unknown command."""
        raise ShellError(f"There is no command {line.split()[0]!r}: type help")

    def do_exit(self, _: str) -> bool:
        """Leave the shell."""
        return True

    def do_EOF(self, _: str) -> bool:
        """Leave the shell."""
        say("")
        return True

    def do_list_jobs(self, line: str) -> None:
        """List jobs: list_jobs [id=...] [queue=...] [task=...] [status=...] [lock=...] [queueing_lock=...] [details]"""
        words = shlex.split(line)
        details = "details" in words
        criteria = _criteria([word for word in words if word != "details"], _FILTERS)
        if "id" in criteria:
            criteria["id"] = _job_id(criteria["id"])
        for page in self._pages(criteria):
            self._print_jobs(page, details=details)

    def do_list_queues(self, line: str) -> None:
        """Count jobs by queue: list_queues [queue=...] [task=...] [status=...] [lock=...]"""
        self._print_counts(line, self._jobs.list_queues)

    def do_list_tasks(self, line: str) -> None:
        """Count jobs by task: list_tasks [queue=...] [task=...] [status=...] [lock=...]"""
        self._print_counts(line, self._jobs.list_tasks)

    def do_list_locks(self, line: str) -> None:
        """Count jobs by lock: list_locks [queue=...] [task=...] [status=...] [lock=...]"""
        self._print_counts(line, self._jobs.list_locks)

    def do_result(self, line: str) -> None:
        """Show the return value of a job and the errors of its attempts: result ID"""
        result = self._jobs.get_result(_job_id(line))
        self._print_jobs([result.job], details=False)
        if result.has_value:
            say(f"Returned: {quoted(self._jobs.connector.json_dumps(result.value))}")
        for error in result.errors:
            attempt = f"Attempt {error.attempt} on worker {error.worker_id}, {error.at}: {error.exception_class}"
            say(f"\n{quoted(attempt)}")
            say(indented(f"  {error.traceback.rstrip()}"))

    def do_retry(self, line: str) -> None:
        """Retry a failed job: retry ID"""
        job_id = _job_id(line)
        self._jobs.retry_job_by_id(job_id)
        self._print_job(job_id)

    def do_cancel(self, line: str) -> None:
        """Cancel a waiting job: cancel ID"""
        job_id = _job_id(line)
        if not self._jobs.cancel_job_by_id(job_id):
            status = self._jobs.get_job_status(job_id)
            raise ShellError(f"Job {job_id} does not wait: it is {status.value}")
        self._print_job(job_id)

    def _pages(self, criteria: dict[str, Any]) -> Iterator[list[Job]]:
        after_id: int | None = None
        while page := self._jobs.list_jobs(**criteria, limit=_PAGE, after_id=after_id):
            yield page
            after_id = page[-1].id

    def _print_job(self, job_id: int) -> None:
        self._print_jobs(self._jobs.list_jobs(id=job_id), details=False)

    def _print_jobs(self, jobs: Sequence[Job], *, details: bool) -> None:
        if not self._tables:
            for job in jobs:
                say(quoted(_job_line(job, details=details)))
            return
        header = ["ID", "TASK", "QUEUE", "STATUS", *(_DETAILS if details else [])]
        rows = [
            [str(job.id), job.task_name, job.queue, job.status or "", *(_details(job).values() if details else [])]
            for job in jobs
        ]
        say_table([name.upper() for name in header], rows, [_COLOURS.get(job.status or "") for job in jobs])

    def _print_counts(self, line: str, count: Callable[..., list[dict[str, Any]]]) -> None:
        counts = count(**_criteria(shlex.split(line), _COUNT_FILTERS))
        if self._tables:
            columns = ("name", "jobs_count", *_COUNTED)
            rows = [[str(row[name]) for name in columns] for row in counts]
            say_table([name.upper() for name in columns], rows)
            return
        for row in counts:
            by_status = ", ".join(f"{name}: {row[name]}" for name in _COUNTED)
            say(quoted(f"{row['name']}: {row['jobs_count']} jobs ({by_status})"))


_DETAILS = ("attempts", "priority", "scheduled_at", "args", "lock", "queueing_lock")


def _details(job: Job) -> dict[str, str]:
    values = (job.attempts, job.priority, job.scheduled_at, job.task_kwargs, job.lock, job.queueing_lock)
    return {name: str(value) for name, value in zip(_DETAILS, values, strict=True)}


def _job_line(job: Job, *, details: bool) -> str:
    line = f"#{job.id} {job.task_name} on {job.queue} - [{job.status}]"
    if not details:
        return line
    return f"{line} ({', '.join(f'{name}={quoted(value, LONGEST_VALUE)}' for name, value in _details(job).items())})"


def _criteria(words: Sequence[str], allowed: Sequence[str]) -> dict[str, Any]:
    criteria: dict[str, Any] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or name not in allowed:
            raise ShellError(f"{word!r} is not understood: give {', '.join(f'{one}=...' for one in allowed)}")
        criteria[name] = value
    return criteria


def _job_id(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ShellError(f"{text!r} is not the id of a job: give its number") from None
