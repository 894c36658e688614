"""Settings that the worker command itself reads from ``worker_defaults``: number of processes and event loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

from procrastinate._checks.amounts import read_count
from procrastinate.worker.worker_settings import WorkerOptions, check_switch

D = TypeVar("D", bound=Mapping[str, Any])


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


def with_lists(options: D) -> D:
    """Return a copy of worker options with a list in place of each iterator. Only its first reader could read that.

    Several apps may be given one dict, and tracing adds its middleware to the options of an app.
    """
    return cast("D", {name: list(one) if isinstance(one, Iterator) else one for name, one in options.items()})


def worker_options(defaults: WorkerOptions | WorkerDefaults) -> WorkerOptions:
    """Return the remaining options, which are the worker's.

    Raises
    ------
    TypeError
        A value is an iterator. The next worker would find it empty.
    """
    for name, value in defaults.items():
        if isinstance(value, Iterator):
            raise TypeError(f"{name} of worker_defaults is {value!r}, which can be read only once: write a list")
    return cast("WorkerOptions", {name: value for name, value in defaults.items() if name not in _NAMES})
