"""An interactive shell to inspect the queue, and to retry and cancel jobs."""

from __future__ import annotations

import cmd
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from procrastinate import exceptions
from procrastinate._quoting import LONGEST_VALUE, indented, quoted
from procrastinate._text.terminal import is_terminal, say, say_lines, table, write
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

_PAGE = 500
_LIMIT = 100
"""Number of jobs that a terminal gets at a time. A pipe gets all."""
_FILTERS = ("id", "queue", "task", "status", "lock", "queueing_lock")
_COUNT_FILTERS = ("queue", "task", "status", "lock")
_COUNTED = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")
_COLOURS = {"failed": "red", "aborted": "red", "doing": "blue", "succeeded": "green", "cancelled": "dim"}


class ShellError(exceptions.ProcrastinateException):
    """The shell command cannot be executed."""


class ProcrastinateShell(cmd.Cmd):
    """Commands on one queue: ``list_jobs``, ``list_queues``, ``list_tasks``, ``list_locks``, ``result``,
    ``retry``, ``cancel``, and ``help``, which describes them.

    Parameters
    ----------
    job_manager:
        The job manager of an open app.
    """

    intro = "Type help to list the commands, and quit to leave."
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
            say_lines(indented(f"Error: {error}"), sys.stderr)
            return False

    def emptyline(self) -> bool:
        """Do nothing. The default would repeat the last command."""
        return False

    def default(self, line: str) -> None:
        """Raise ``ShellError`` for an unknown command."""
        raise ShellError(f"There is no command {line.split()[0]!r}: type help")

    def do_help(self, arg: str) -> None:
        """List the commands, or describe one: help [COMMAND]"""
        if arg:
            command = getattr(self, f"do_{arg}", None)
            if command is None:
                raise ShellError(f"There is no command {arg!r}: type help")
            say_lines(inspect.cleandoc(command.__doc__ or arg))
            return
        names = [name.removeprefix("do_") for name in self.get_names() if name.startswith("do_") and name != "do_EOF"]
        width = max(map(len, names))
        for name in names:
            description = (getattr(self, f"do_{name}").__doc__ or "").partition(":")[0].rstrip(".")
            say(f"{name:<{width}}  {description}")
        say("Type help COMMAND for the arguments of a command.")

    def do_quit(self, _: str) -> bool:
        """Leave the shell."""
        return True

    do_exit = do_quit

    def do_EOF(self, _: str) -> bool:
        """Leave the shell."""
        say("")
        return True

    def do_list_jobs(self, line: str) -> None:
        """List jobs, the oldest first: list_jobs [FILTER=...] [details] [limit=...] [after=ID]

        Filters are id, queue, task, status, lock and queueing_lock. A terminal gets 100 jobs at a time, unless
        limit=... gives another number, or limit=all. after=ID goes on after the job with this id.
        """
        words = shlex.split(line)
        details = "details" in words
        criteria = _criteria([word for word in words if word != "details"], (*_FILTERS, "limit", "after"))
        limit = _limit(criteria.pop("limit", str(_LIMIT) if self._tables else "all"))
        after_id = _job_id(criteria.pop("after")) if "after" in criteria else None
        if "id" in criteria:
            criteria["id"] = _job_id(criteria["id"])
        for page in self._pages(criteria, limit, after_id):
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
            say("")
            say(attempt)
            say_lines(indented(f"  {error.traceback.rstrip()}"))

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

    def _pages(self, criteria: dict[str, Any], limit: int | None, after_id: int | None) -> Iterator[list[Job]]:
        """Yield up to ``limit`` jobs. If there are more, say how to list them."""
        left = limit
        while page := self._jobs.list_jobs(**criteria, limit=_page_size(left), after_id=after_id):
            shown = page if left is None else page[:left]
            if shown:
                yield shown
                after_id = shown[-1].id
            if left is not None:
                left -= len(shown)
                if len(shown) < len(page):
                    say(f"There are more: after={after_id} goes on, limit=all lists all.", sys.stderr)
                    return

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
        write(table([name.upper() for name in header], rows, [_COLOURS.get(job.status or "") for job in jobs]))

    def _print_counts(self, line: str, count: Callable[..., list[dict[str, Any]]]) -> None:
        counts = count(**_criteria(shlex.split(line), _COUNT_FILTERS))
        if self._tables:
            columns = ("name", "jobs_count", *_COUNTED)
            rows = [[str(row[name]) for name in columns] for row in counts]
            write(table([name.upper() for name in columns], rows))
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
        if name in criteria:
            raise ShellError(f"{name} is given twice: list the jobs of each value")
        criteria[name] = value
    return criteria


def _page_size(left: int | None) -> int:
    """Return the number of jobs to read at once: one more than the limit, which tells whether there are more."""
    return _PAGE if left is None else min(_PAGE, left + 1)


def _limit(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise ShellError(f"limit={text} is not understood: give a number or all")
    return int(text)


def _job_id(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ShellError(f"{text!r} is not the id of a job: give its number") from None
