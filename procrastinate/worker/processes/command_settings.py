"""Settings that the worker command itself reads from ``worker_defaults``: number of processes and event loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from procrastinate._checks.amounts import read_count
from procrastinate.worker.worker_settings import WorkerOptions, check_switch


class WorkerDefaults(WorkerOptions, total=False):
    """Type of ``worker_defaults``: worker options, plus options of the worker command only."""

    processes: int
    uvloop: bool | None
    reload: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandSettings:
    """Validated settings of the worker command.

    Attributes
    ----------
    processes:
        Number of worker processes. With 1, the worker runs in this process, without a supervisor.
    uvloop:
        True to run workers on uvloop; ``None`` to use it if it is installed.
    reload:
        True to restart the workers when the code changes, for development.
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
    """Return the settings of the command from these options. A later mapping overrides an earlier one.

    Raises
    ------
    TypeError, ValueError
        A value is invalid.
    """
    merged = {name: value for one in options for name, value in one.items()}
    return CommandSettings(**{name: merged[name] for name in _NAMES & merged.keys()})


def worker_options(defaults: WorkerOptions | WorkerDefaults) -> WorkerOptions:
    """Return the remaining options, which are the worker's."""
    return cast("WorkerOptions", {name: value for name, value in defaults.items() if name not in _NAMES})
