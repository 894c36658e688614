"""The migrations: the one source of the schema. Django's are emitted from these.

Some modules load Alembic, which takes a fifth of the time that a program with a queue needs to start. Few programs
change the schema, so these modules are imported at their first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from procrastinate.alembic import adoption as adoption
    from procrastinate.alembic import build_ahead as build_ahead
    from procrastinate.alembic import empty_lines as empty_lines
    from procrastinate.alembic import plans as plans
    from procrastinate.alembic import upgrades as upgrades

_LOADED_AT_FIRST_USE = ("adoption", "build_ahead", "empty_lines", "plans", "upgrades")


if not TYPE_CHECKING:  # a type checker would take any name for an attribute

    def __getattr__(name: str) -> Any:
        if name in _LOADED_AT_FIRST_USE:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
