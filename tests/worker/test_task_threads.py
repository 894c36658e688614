"""The threads in which a worker runs sync tasks."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from procrastinate.worker.task_threads import TaskThreads, _DaemonThreads

_EXIT_WITH_A_BUSY_THREAD = """
import threading
from procrastinate.worker.task_threads import _DaemonThreads
begun = threading.Event()
_DaemonThreads().submit(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
"""


def test_a_busy_task_thread_does_not_keep_the_process_from_its_exit() -> None:
    subprocess.run([sys.executable, "-c", _EXIT_WITH_A_BUSY_THREAD], check=True, timeout=30)


async def test_a_thread_is_used_again() -> None:
    threads = TaskThreads(on_returned=lambda: None)
    try:
        names = {await threads.run(lambda: threading.current_thread().name, lambda _: None) for _ in range(20)}
    finally:
        threads.close()
    assert len(names) == 1


def test_a_call_that_no_thread_could_be_started_for_is_not_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = _DaemonThreads()
    made: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            threads.submit(lambda: made.append("refused"))
    threads.submit(lambda: made.append("started")).result(timeout=30)
    threads.close()
    assert made == ["started"]
