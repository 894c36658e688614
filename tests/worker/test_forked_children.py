"""A process that a job forks is not the worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from procrastinate.worker.signals import on_stop_signal


@pytest.fixture
def child() -> Iterator[int]:
    """Fork a process, under the handlers of a worker, that waits for a signal."""
    ready, tell = os.pipe()
    with on_stop_signal(lambda: None):
        pid = os.fork()
        if pid == 0:
            try:
                os.write(tell, b"x")
                signal.pause()
            finally:
                os._exit(77)
        os.read(ready, 1)
        os.close(ready)
        os.close(tell)
        yield pid


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_sigterm_ends_a_process_that_a_job_has_forked(child: int) -> None:
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
