"""A forked process can use the queue, whatever another thread did at the moment of the fork."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import procrastinate
from procrastinate._fork_locks import fork_lock

PACKAGE = pathlib.Path(procrastinate.__file__).parent
_PATIENCE = 20

NOT_REACHED_BY_A_FORK = {
    "_fork_locks.py": "makes the locks",
    "adapters/connections/timer_thread.py": "a fork makes new timers",
    "dashboard/server.py": "the connections of a web server",
    "metrics/metrics_page.py": "the figures of a web server",
    "worker/fetch/open_fetch.py": "a fetch of the worker",
    "worker/fetch/prefetch.py": "the jobs of the worker",
    "worker/run/kept_log.py": "a fork adds nothing to the log of a run",
    "worker/run/run_statistics.py": "counts of the worker",
    "worker/run/threads.py": "the threads of the worker",
    "worker/services/liveness_watch.py": "what the worker sees of others",
}
"""Modules with locks of another kind, and why the code of a forked process never waits for them."""


def exit_code_of_fork(function: Callable[[], object]) -> int:
    """Call a function in a fork, and return its exit code. A fork that hangs is killed."""
    child = os.fork()
    if child == 0:
        signal.alarm(_PATIENCE)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def hold(lock: AbstractContextManager[object], until: Callable[[], object]) -> None:
    """Let another thread hold a lock until a function returns."""
    is_held = threading.Event()

    def work() -> None:
        with lock:
            is_held.set()
            until()

    threading.Thread(target=work, daemon=True).start()
    is_held.wait()


def test_a_lock_that_another_thread_holds_at_a_fork_is_free_in_both_processes() -> None:
    lock = fork_lock()
    hold(lock, lambda: time.sleep(0.5))
    assert exit_code_of_fork(lambda: lock.acquire()) == 0
    assert lock.acquire(timeout=_PATIENCE)
    lock.release()


def test_a_fork_inside_the_lock_leaves_the_lock_to_both_processes() -> None:
    lock = fork_lock()
    with lock:
        assert exit_code_of_fork(lock.release) == 0
    assert lock.acquire(timeout=0)
    lock.release()


def test_a_fork_waits_for_two_seconds_at_most() -> None:
    lock, is_over = fork_lock(), threading.Event()
    hold(lock, is_over.wait)
    start = time.monotonic()
    assert exit_code_of_fork(lambda: None) == 0
    is_over.set()
    assert 1.5 < time.monotonic() - start < _PATIENCE


def test_every_lock_of_the_package_is_for_forks_or_is_listed_with_the_reason() -> None:
    making = re.compile(r"threading\.(R?Lock|Condition|Semaphore)\(")
    others = {str(one.relative_to(PACKAGE)) for one in PACKAGE.rglob("*.py") if making.search(one.read_text())}
    assert others == NOT_REACHED_BY_A_FORK.keys()
