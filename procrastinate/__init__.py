"""Procrastinate: a PostgreSQL job queue for Python.

The first use of ``procrastinate.NAME`` imports the module of that name. So a program, and above all the command, loads
only what it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procrastinate._legacy import Moved
    from procrastinate.adapters.standalone import PsycopgConnector, SyncPsycopgConnector
    from procrastinate.app import App
    from procrastinate.blueprints import Blueprint
    from procrastinate.connector import BaseConnector
    from procrastinate.job_context import JobContext
    from procrastinate.limits import Limit as Limit
    from procrastinate.locks import by_arguments as by_arguments
    from procrastinate.rates import Rate as Rate
    from procrastinate.replicas import ReadReplica as ReadReplica
    from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
    from procrastinate.several_databases import run_workers as run_workers
    from procrastinate.several_databases import run_workers_async as run_workers_async
    from procrastinate.unique import Unique as Unique
    from procrastinate.workflows.canvas import chain as chain
    from procrastinate.workflows.canvas import chord as chord
    from procrastinate.workflows.canvas import group as group

    # Names from 3.x, which have moved.
    AiopgConnector: Moved
    Psycopg2Connector: Moved

    __version__: str
    __author__: str
    __author_email__: str
    __license__: str
    __url__: str

__all__ = [
    "App",
    "BaseConnector",
    "BaseRetryStrategy",
    "Blueprint",
    "JobContext",
    "PsycopgConnector",
    "RetryDecision",
    "RetryStrategy",
    "SyncPsycopgConnector",
]

_HOMES = {
    "AiopgConnector": "_legacy",
    "App": "app",
    "BaseConnector": "connector",
    "BaseRetryStrategy": "retry",
    "Blueprint": "blueprints",
    "JobContext": "job_context",
    "Limit": "limits",
    "Psycopg2Connector": "_legacy",
    "PsycopgConnector": "adapters.standalone",
    "Rate": "rates",
    "ReadReplica": "replicas",
    "RetryDecision": "retry",
    "RetryStrategy": "retry",
    "SyncPsycopgConnector": "adapters.standalone",
    "Unique": "unique",
    "by_arguments": "locks",
    "chain": "workflows.canvas",
    "chord": "workflows.canvas",
    "group": "workflows.canvas",
    "run_workers": "several_databases",
    "run_workers_async": "several_databases",
}
"""The module of each name."""


if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name: str) -> Any:
        """Import what the name stands for: a public name, a module, or a fact about the distribution."""
        if name in _HOMES:
            globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
            return value
        if name.startswith("_"):
            return importlib.import_module(f"{__name__}._legacy").metadata(name)
        return _module(name)

    def _module(name: str) -> Any:
        path = f"{__name__}.{name}"
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name != path:
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
