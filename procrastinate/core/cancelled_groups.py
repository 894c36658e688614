"""The operation that a worker asks before it starts a step: was the workflow cancelled?"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from procrastinate.core.arrays import array_param
from procrastinate.core.tables import workflows
from procrastinate.core.workflow_rows import GroupKind

_root, _steps = workflows.alias("root"), workflows.alias("steps")
_HAS_CALLBACKS = (
    sa.select(_steps.c.id)
    .where(_steps.c.root_id == workflows.c.id, _steps.c.kind == GroupKind.STEPS.value)
    .exists()
    .correlate(workflows)
)
_CANCELLED = (
    sa.select(workflows.c.id)
    .join(_root, _root.c.id == workflows.c.root_id)
    .where(
        workflows.c.id == sa.any_(array_param("ids", sa.BigInteger())),
        _root.c.cancelled_at.is_not(None),
        _root.c.finished_at.is_(None),
        # The members of such a workflow itself are its callbacks, and those of `on_end` still run.
        sa.not_(sa.and_(workflows.c.kind == GroupKind.WORKFLOW.value, _HAS_CALLBACKS)),
    )
)


def list_cancelled_groups(connection: sa.Connection, group_ids: Sequence[int]) -> list[int]:
    """Return those of these groups whose workflow was cancelled and has not ended. No step of them may start.

    The group of the callbacks is not among them. A step that an operator retries after the end of its workflow may
    start.
    """
    return list(connection.execute(_CANCELLED, {"ids": list(group_ids)}).scalars())
