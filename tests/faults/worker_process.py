"""Workers as operating systems know them: processes that can be killed, frozen and terminated."""

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
    """A worker in a process of its own, and what it logs.

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
        """As the operating system has it."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended: below zero, of a signal."""
        return self._process.poll()

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Take the processor away from it."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Give it back."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to stop, as a supervisor does; it drains first."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self, within: float = PATIENCE) -> float:
        """Ask it to stop, wait for that, and say how many seconds it took."""
        began = time.monotonic()
        self.terminate()
        until(lambda: not self.is_running, f"the worker stops: {self.tail()}", within)
        assert self.exit_code == 0, f"exit code {self.exit_code}: {self.tail()}"
        return time.monotonic() - began

    def log(self) -> str:
        """All that it has logged."""
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
        """Wait until it works."""
        until(lambda: self.actions()["start_worker"] or not self.is_running, "the worker starts")
        assert self.is_running, self.tail()


class Fleet:
    """Starts workers, and, as a supervisor does, others for those that die."""

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
        """Start a worker, and wait until it works."""
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
        """Nothing stays."""
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
        """Start a worker that gives up at its start, and wait for that."""
        worker = self._start(dataclasses.replace(self._setup, url=url), None)
        self.workers.remove(worker)
        until(lambda: not worker.is_running, "the worker gives up")
        return worker

    def _start(self, setup: Setup, environment: Mapping[str, str] | None, root: pathlib.Path = ROOT) -> WorkerProcess:
        with self._mutex:
            self._started += 1
            worker = WorkerProcess(setup, self._directory / f"worker-{self._started}.log", environment, root)
            self.workers.append(worker)
        return worker
