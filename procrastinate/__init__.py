"""Procrastinate: a PostgreSQL job queue for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate._legacy import Moved, metadata
from procrastinate.adapters.standalone import PsycopgConnector, SyncPsycopgConnector
from procrastinate.app import App
from procrastinate.blueprints import Blueprint
from procrastinate.connector import BaseConnector
from procrastinate.job_context import JobContext
from procrastinate.limits import Limit as Limit
from procrastinate.locks import by_arguments as by_arguments
from procrastinate.rates import Rate as Rate
from procrastinate.retry import BaseRetryStrategy, RetryDecision, RetryStrategy
from procrastinate.unique import Unique as Unique
from procrastinate.workflows.canvas import chain as chain
from procrastinate.workflows.canvas import chord as chord
from procrastinate.workflows.canvas import group as group

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

# Names from 3.x, which have moved.
AiopgConnector = Moved("AiopgConnector", "procrastinate.contrib.aiopg.AiopgConnector")
Psycopg2Connector = Moved("Psycopg2Connector", "procrastinate.contrib.psycopg2.Psycopg2Connector")

__version__: str
__author__: str
__author_email__: str
__license__: str
__url__: str


if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name: str) -> str:
        return metadata(name)
