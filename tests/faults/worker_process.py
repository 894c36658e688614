"""Workers as operating system processes, which tests kill, freeze and terminate."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.faults.program import Setup
from tests.faults.waiting import PATIENCE, until

ROOT = pathlib.Path(__file__).parents[2]


class WorkerProcess:
    """A worker in its own process, and its log.

    Parameters
    ----------
    root:
        Where the package and its program are: of another release, say.
    """

    def __init__(
        self,
        setup: Setup,
        log: pathlib.Path,
        environment: Mapping[str, str] | None = None,
        root: pathlib.Path = ROOT,
    ) -> None:
        self._log_path = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.program", json.dumps(dataclasses.asdict(setup))],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                env=os.environ | {"PYTHONWARNINGS": "error"} | dict(environment or {}),
            )

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return the exit status, which is negative after a signal."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill the process, like the kernel when memory runs out."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop the process with SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the process with SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Send SIGTERM, like a supervisor. The worker drains first."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self, within: float = PATIENCE) -> float:
        """Stop the worker gracefully, and return the seconds that this took."""
        began = time.monotonic()
        self.terminate()
        until(lambda: not self.is_running, f"the worker stops: {self.tail()}", within)
        assert self.exit_code == 0, f"exit code {self.exit_code}: {self.tail()}"
        return time.monotonic() - began

    def log(self) -> str:
        """Return the log."""
        return self._log_path.read_text(errors="replace")

    def tail(self) -> str:
        """Return the last 3000 characters of the log."""
        return self.log()[-3000:]

    def actions(self) -> collections.Counter[str]:
        """Count the actions that the worker logged."""
        return collections.Counter(record.get("action") or "" for record in self.records())

    def records(self) -> list[dict[str, Any]]:
        """Return the log records, without other printed lines."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}")]

    def logs(self, action: str) -> None:
        """Wait until the worker logs the action."""
        until(lambda: self.actions()[action], f"the worker logs {action}: {self.tail()}")

    def is_ready(self) -> None:
        """Wait until the worker is ready."""
        until(lambda: self.actions()["start_worker"] or not self.is_running, "the worker starts")
        assert self.is_running, self.tail()


class Fleet:
    """Starts workers and, like a supervisor, replaces dead ones."""

    def __init__(self, setup: Setup, directory: pathlib.Path) -> None:
        self._setup = setup
        self._directory = directory
        self._started = 0
        self.workers: list[WorkerProcess] = []
        self.restarts = 0
        self._supervision = threading.Event()
        self._supervisor: threading.Thread | None = None
        self._mutex = threading.Lock()

    def start(
        self,
        count: int = 1,
        *,
        environment: Mapping[str, str] | None = None,
        answer_timeout: float | None = None,
        url: str | None = None,
        ticks: str | None = None,
        listen: str | None = None,
        root: pathlib.Path = ROOT,
        **options: Any,
    ) -> list[WorkerProcess]:
        """Start `count` workers, and wait until they are ready."""
        setup = dataclasses.replace(
            self._setup,
            url=url or self._setup.url,
            options=self._setup.options | options,
            answer_timeout=answer_timeout,
            ticks=ticks,
            listen=listen,
        )
        started = [self._start(setup, environment, root) for _ in range(count)]
        for worker in started:
            worker.is_ready()
        return started

    def start_one(self, **options: Any) -> WorkerProcess:
        """Start a worker, and wait until it is ready."""
        (worker,) = self.start(**options)
        return worker

    def supervise(self, count: int, **options: Any) -> None:
        """Keep `count` workers running from now on: replace each that dies."""
        setup = dataclasses.replace(self._setup, options=self._setup.options | options)
        self._supervisor = threading.Thread(target=self._keep_running, args=(count, setup), daemon=True)
        self._supervisor.start()

    def running(self) -> list[WorkerProcess]:
        """Return the running workers."""
        return [worker for worker in list(self.workers) if worker.is_running]

    def each(self, action: Callable[[WorkerProcess], object]) -> None:
        """Call `action` with each running worker."""
        for worker in self.running():
            action(worker)

    def actions(self) -> collections.Counter[str]:
        """Count the actions that all workers logged."""
        return sum((worker.actions() for worker in self.workers), collections.Counter())

    def stop_supervision(self) -> None:
        """Replace no more dead workers."""
        self._supervision.set()
        if self._supervisor is not None:
            self._supervisor.join()

    def end_of_test(self) -> None:
        """Kill all workers."""
        self.stop_supervision()
        for worker in self.running():
            worker.kill()

    def _keep_running(self, count: int, setup: Setup) -> None:
        for _ in range(count):
            self._start(setup, None)
        while not self._supervision.wait(0.05):
            for _ in range(count - len(self.running())):
                self.restarts += 1
                self._start(setup, None)

    def start_in_vain(self, url: str) -> WorkerProcess:
        """Start a worker that fails at startup, and wait until it ends."""
        options = {**self._setup.options, "wait_for_schema": False}
        worker = self._start(dataclasses.replace(self._setup, url=url, options=options), None)
        self.workers.remove(worker)
        until(lambda: not worker.is_running, "the worker gives up")
        return worker

    def _start(self, setup: Setup, environment: Mapping[str, str] | None, root: pathlib.Path = ROOT) -> WorkerProcess:
        with self._mutex:
            self._started += 1
            worker = WorkerProcess(setup, self._directory / f"worker-{self._started}.log", environment, root)
            self.workers.append(worker)
        return worker
