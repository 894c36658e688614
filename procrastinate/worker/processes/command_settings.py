"""What the worker command reads of ``worker_defaults`` itself: how many processes, on which event loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from procrastinate._checks.amounts import read_count
from procrastinate.worker.worker_settings import WorkerOptions, check_switch


class WorkerDefaults(WorkerOptions, total=False):
    """What ``worker_defaults`` may have: the options of a worker, and what the command alone reads."""

    processes: int
    uvloop: bool | None
    reload: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandSettings:
    """How the command runs workers, checked.

    Attributes
    ----------
    processes:
        How many worker processes; 1: a worker in this process, without a supervisor.
    uvloop:
        Whether workers run on uvloop; ``None``: where it is installed.
    reload:
        Whether fresh workers are started when the code changes, for development.
    """

    processes: int = 1
    uvloop: bool | None = None
    reload: bool = False

    def __post_init__(self) -> None:
        read_count("processes", self.processes, at_least=1)
        check_switch("reload", self.reload)
        if self.uvloop is not None:
            check_switch("uvloop", self.uvloop)


_NAMES = frozenset(field.name for field in dataclasses.fields(CommandSettings))


def command_settings(*options: Mapping[str, Any]) -> CommandSettings:
    """What concerns the command among the options; the last that says something counts.

    Raises
    ------
    TypeError, ValueError
        It makes no sense.
    """
    merged = {name: value for one in options for name, value in one.items()}
    return CommandSettings(**{name: merged[name] for name in _NAMES & merged.keys()})


def worker_options(defaults: WorkerOptions | WorkerDefaults) -> WorkerOptions:
    """The rest: what a worker takes."""
    return cast("WorkerOptions", {name: value for name, value in defaults.items() if name not in _NAMES})
