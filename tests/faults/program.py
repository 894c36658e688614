"""The worker program: ``python -m tests.faults.program SETUP``, where ``SETUP`` is a :class:`Setup` as JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import logging
import os
import signal
import sys
import time
from typing import Any

import procrastinate
from procrastinate.job_context import JobContext
from tests.faults.ledger import Ledger


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker is started with.

    Parameters
    ----------
    url, ledger:
        The database of the jobs, and that of the ledger.
    options:
        Of ``app.run_worker``.
    answer_timeout:
        Seconds that a silent server gets; ``None`` for what workers have.
    ticks:
        Defer a periodic task each second, by the clocks of this time zone.
    listen:
        Parameters of the listening connection, if they differ from those of the others.
    """

    url: str
    ledger: str
    options: dict[str, Any]
    answer_timeout: float | None = None
    ticks: str | None = None
    listen: str | None = None


class JsonLines(logging.Formatter):
    """Formats each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        values = {"action": vars(record).get("action"), "level": record.levelname, "message": record.getMessage()}
        return json.dumps(values)


app = procrastinate.App(connector=procrastinate.PsycopgConnector())
ledger: Ledger
PROCESS = os.getpid()


@app.task(name="note", pass_context=True)
async def note(context: JobContext, number: int, seconds: float = 0.0) -> None:
    """Run for `seconds`."""
    ledger.started(number, PROCESS, context.job.lock)
    await asyncio.sleep(seconds)
    ledger.ended(number, PROCESS, context.job.lock)


@app.task(name="wait_at_gate")
async def wait_at_gate(number: int, gate: str) -> None:
    """Wait until the test opens the gate."""
    ledger.started(number, PROCESS)
    while not ledger.is_gate_open(gate):  # noqa: ASYNC110 - the gate is in a database
        await asyncio.sleep(0.05)
    ledger.ended(number, PROCESS)


@app.task(name="block_loop")
async def block_loop(number: int, seconds: float) -> None:
    """Block the event loop for `seconds`."""
    ledger.started(number, PROCESS)
    time.sleep(seconds)  # noqa: ASYNC251
    ledger.ended(number, PROCESS)


@app.task(name="hold_gil")
def hold_gil(number: int, seconds: float) -> None:
    """Hold the GIL for about a fifth of a second at a time, on any machine.

    A heartbeat has to wait for the GIL two to five times, which must all fit into the timeout.
    """
    ledger.started(number, PROCESS)
    now = time.monotonic()
    end, numbers = now + seconds, 100_000
    while now < end:
        began = now
        sum(range(numbers))
        now = time.monotonic()
        numbers = int(numbers * 0.2 / (now - began))
    ledger.ended(number, PROCESS)


@app.task(name="kill_worker")
def kill_worker(number: int) -> None:
    """Kill the process with SIGKILL, like the kernel when memory runs out."""
    ledger.started(number, PROCESS)
    os.kill(PROCESS, signal.SIGKILL)
    time.sleep(60)


@app.task(name="kill_worker_once", pass_context=True)
async def kill_worker_once(context: JobContext, number: int, seconds: float = 0.0) -> None:
    """Kill the worker in the middle of the job, with all other running jobs.

    The job does this once: in its first attempt, or in a later one if another job killed the worker first.
    """
    ledger.started(number, PROCESS, context.job.lock)
    await asyncio.sleep(seconds)
    if not ledger.is_gate_open(f"killed by {number}"):
        ledger.open_gate(f"killed by {number}")
        os.kill(PROCESS, signal.SIGKILL)
    ledger.ended(number, PROCESS, context.job.lock)


@app.task(name="exit_process")
def exit_process(number: int) -> None:
    """End the process without any cleanup."""
    ledger.started(number, PROCESS)
    os._exit(3)


def _deeper() -> None:
    _deeper()


_RAISES: dict[str, BaseException] = {
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
}


def _misbehave(how: str) -> None:
    if how in _RAISES:
        raise _RAISES[how]
    if how == "RecursionError":
        _deeper()
    if how == "MemoryError":
        bytearray(2**62)


@app.task(name="misbehave")
async def misbehave(number: int, how: str) -> None:
    """Raise an unusual exception in the event loop."""
    ledger.started(number, PROCESS)
    _misbehave(how)


@app.task(name="misbehave_in_thread")
def misbehave_in_thread(number: int, how: str) -> None:
    """Raise an unusual exception in a thread."""
    ledger.started(number, PROCESS)
    _misbehave(how)


@app.task(name="weigh")
def weigh(number: int, data: str, length: int) -> None:
    """Check the length of a large argument."""
    ledger.started(number, PROCESS)
    assert len(data) == length
    ledger.ended(number, PROCESS)


@app.task(name="fail_once", retry=procrastinate.RetryStrategy(max_attempts=1, wait=1), pass_context=True)
def fail_once(context: JobContext, number: int) -> None:
    """Fail once, and succeed in the second attempt, a second later."""
    ledger.started(number, PROCESS)
    if context.job.attempts == 0:
        raise ValueError("Not yet")
    ledger.ended(number, PROCESS)


@app.task(name="tell_time")
def tell_time(number: int) -> float:
    """Log the time of this process's clock."""
    ledger.started(number, PROCESS)
    now = datetime.datetime.now(tz=datetime.UTC).timestamp()
    logging.getLogger(__name__).warning("%.0f", now, extra={"action": "time"})
    ledger.ended(number, PROCESS)
    return now


def tick(timestamp: int) -> None:
    """Record a tick of the periodic task."""
    ledger.started(timestamp, PROCESS)
    ledger.ended(timestamp, PROCESS)


def _lose_patience(seconds: float) -> None:
    # This program also runs workers of an earlier release, whose modules have other names.
    from procrastinate.adapters.connections import answer_timeout, listen

    answer_timeout.ANSWER_TIMEOUT = seconds
    answer_timeout.CANCEL_TIMEOUT = min(seconds, answer_timeout.CANCEL_TIMEOUT)
    listen.ANSWER_TIMEOUT = seconds
    listen.PROBE_INTERVAL = seconds


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level="INFO", handlers=[handler])


def main(setup: Setup) -> None:
    """Run a worker until it is stopped."""
    global ledger
    _log_to_stderr()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    ledger = Ledger(setup.ledger)
    if setup.answer_timeout is not None:
        _lose_patience(setup.answer_timeout)
    if setup.ticks is not None:
        app.periodic(cron="* * * * * *", timezone=setup.ticks)(app.task(name="tick")(tick))
    past_the_pooler = {} if setup.listen is None else {"listen_connect_args": setup.listen}
    logging.getLogger(__name__).info(procrastinate.__file__, extra={"action": "package"})
    connector = procrastinate.PsycopgConnector(conninfo=setup.url, **past_the_pooler)
    app.with_connector(connector).run_worker(**setup.options)


if __name__ == "__main__":
    main(Setup(**json.loads(sys.argv[1])))
