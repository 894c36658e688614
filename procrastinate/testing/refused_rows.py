"""The ways around a row that the database refuses to change, in memory: no row is refused there."""

from __future__ import annotations

from typing import Any

from procrastinate.core.operation_marks import FINDERS
from procrastinate.testing.implementations import Implementations
from procrastinate.testing.tables import Tables

IMPLEMENTED = Implementations()


def _no_row(tables: Tables, **arguments: Any) -> int | None:
    return None


IMPLEMENTED.update(dict.fromkeys(FINDERS, _no_row))
