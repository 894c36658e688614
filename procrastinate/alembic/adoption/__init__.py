"""Upgrades the tables of Procrastinate 3.10 in place, while its workers and writers run.

The steps are in :mod:`~procrastinate.alembic.adoption.steps`, and each can be repeated: after a run that was killed,
the next one goes on. They lead to the revision :data:`REACHED` and to the functions of ``procrastinate_0007``; the
revisions after it are applied as to any database. This package is never changed for them.
"""

from __future__ import annotations

from procrastinate.alembic.adoption.adopt import Report, adopt, adopt_in_transaction, report_to_log
from procrastinate.alembic.adoption.back import KEPT, can_revert, check_revert, contract, revert
from procrastinate.alembic.adoption.state import Orphans, State, check, is_needed, look
from procrastinate.alembic.adoption.steps import REACHED

__all__ = [
    "KEPT",
    "REACHED",
    "Orphans",
    "Report",
    "State",
    "adopt",
    "adopt_in_transaction",
    "can_revert",
    "check",
    "check_revert",
    "contract",
    "is_needed",
    "look",
    "report_to_log",
    "revert",
]
