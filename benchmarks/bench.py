"""The resources of a case: the server, the systems, template databases, and the amount of work."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks.driver import Driver
from benchmarks.environments import Environment
from benchmarks.server import Database, Server
from benchmarks.systems import System


@dataclasses.dataclass(frozen=True)
class Scale:
    """The amount of work. Slow systems get fewer jobs, because their rate does not depend on the number.

    Parameters
    ----------
    fleet_seconds:
        How long a fleet of registered workers is watched that has nothing to do.
    held_seconds:
        How long an old transaction stays open.
    """

    name: str
    rounds: int
    drained: int = 20_000
    drained_former: int = 4_000
    drained_singly: int = 3_000
    drained_singly_former: int = 1_000
    drained_sync: int = 10_000
    drained_sync_former: int = 3_000
    locked: int = 2_000
    deferred_singly: int = 1_000
    deferred_in_batches: int = 20_000
    deferred_at_once: int = 100_000
    writer_jobs: int = 150
    latency_jobs: int = 150
    due_jobs: int = 40
    low_load_jobs: int = 400
    fleet_jobs: int = 1_000
    one_shot_jobs: int = 500
    idle_seconds: float = 5.0
    fleet_seconds: float = 30.0
    backlog: int = 1_000_000
    line: int = 100_000
    rated: int = 1_000
    behind_backlog: int = 10_000
    held_seconds: float = 20.0
    processes_jobs: int = 40_000
    memory_jobs: int = 500_000
    soak_minutes: int = 30


FULL = Scale("full", rounds=3)
QUICK = Scale(
    "quick",
    rounds=1,
    drained=10_000,
    drained_former=2_000,
    drained_singly=1_000,
    drained_singly_former=400,
    drained_sync=4_000,
    drained_sync_former=1_500,
    locked=1_000,
    deferred_singly=400,
    deferred_at_once=20_000,
    deferred_in_batches=10_000,
    latency_jobs=60,
    due_jobs=15,
    low_load_jobs=100,
    fleet_jobs=400,
    idle_seconds=2.0,
    fleet_seconds=12.0,
    backlog=100_000,
    line=20_000,
    rated=600,
    behind_backlog=5_000,
    held_seconds=5.0,
    processes_jobs=20_000,
    memory_jobs=50_000,
    soak_minutes=2,
)


class Bench:
    """One run of the suite. Template databases are built once, and each measurement gets a copy.

    Parameters
    ----------
    tell:
        Called with each reading of a long measurement.
    """

    def __init__(self, server: Server, scale: Scale, tell: Callable[[str], None] = print) -> None:
        self.server = server
        self.scale = scale
        self.tell = tell
        self._templates: dict[str, Database] = {}
        self._pythons: dict[Environment, pathlib.Path] = {}

    def python(self, environment: Environment) -> pathlib.Path:
        """Return the interpreter of an environment. The first call makes the environment."""
        if environment not in self._pythons:
            self._pythons[environment] = environment.make()
        return self._pythons[environment]

    def drive(self, system: System, program: str, database: Database, **asked: Any) -> Driver:
        """Start a driver program of a system on a database."""
        python = self.python(system.environment)
        return Driver(python, f"{system.programs}_{program}", {"url": database.url, **asked})

    def template(self, name: str, build: Callable[[Database], None]) -> Database:
        """Return the template database with this name. The first call builds it."""
        if name not in self._templates:
            database = self.server.create()
            build(database)
            self.server.freeze(database)
            self._templates[name] = database
        return self._templates[name]

    def waiting_jobs(self, system: System, jobs: int, task: str = "noop") -> Database:
        """Return a vacuumed and analysed template database with this number of waiting jobs."""

        def build(database: Database) -> None:
            with self.drive(system, "setup", database, jobs=jobs, task=task) as driver:
                driver.finish()
            database.execute("VACUUM ANALYZE")

        return self.template(f"{system.label}, {jobs} {task}", build)

    def versions(self) -> dict[str, str]:
        """Return the versions of PostgreSQL and of this project."""
        return {"PostgreSQL": self.server.version(), "procrastinate": importlib.metadata.version("procrastinate")}
