"""Finish the groups of workflows whose last member has ended."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from procrastinate.core.arrays import array_param
from procrastinate.core.enums import Status
from procrastinate.core.refusals import Changer
from procrastinate.core.tables import DOING, TODO, arrivals, jobs, status_literal, workflows

_IDS = array_param("ids", sa.BigInteger())


@dataclasses.dataclass
class FinishedGroups:
    """Groups that were finished, and groups that could not be looked at."""

    finished: list[int] = dataclasses.field(default_factory=list)
    left: list[int] = dataclasses.field(default_factory=list)


def has_open_member(group: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "a member of this group has not ended", as three probes of an index."""
    part = workflows.alias("part")
    first_part = (
        sa.select(part.c.id)
        .where(part.c.parent_id == group.c.id, part.c.finished_at.is_(None))
        .order_by(part.c.parent_id)
        .limit(1)
    )
    probes = [_first_member(group, TODO), _first_member(group, DOING), first_part]
    return sa.or_(*(probe.scalar_subquery().is_not(None) for probe in probes))


def _first_member(group: sa.FromClause, status: sa.ColumnElement[Any]) -> sa.Select[Any]:
    member = jobs.alias("member")
    in_order = (member.c.workflow_id, member.c.status)
    chosen = sa.select(member.c.id).where(member.c.workflow_id == group.c.id, member.c.status == status)
    return chosen.where(member.c.workflow_id.is_not(None)).order_by(*in_order).limit(1)


_CHOSEN = sa.and_(workflows.c.id == sa.any_(_IDS), workflows.c.finished_at.is_(None))
_SEEM_ENDED = sa.select(workflows.c.id).where(_CHOSEN, ~has_open_member(workflows))
_OPEN = sa.select(workflows.c.id).where(_CHOSEN)
_LOCK_GROUPS = sa.select(workflows.c.id).where(_CHOSEN).order_by(workflows.c.id).with_for_update(skip_locked=True)
_LOSE = (
    sa.update(workflows)
    .where(workflows.c.id == sa.bindparam("group_id", type_=sa.BigInteger()))
    .values(lost=workflows.c.lost + sa.bindparam("number", type_=sa.BigInteger()))
)
ENDS = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ABORTED)


def lacks_success(group: sa.FromClause) -> sa.ColumnElement[bool]:
    """Return the condition "a member of this ended group did not succeed". It is NULL without a group.

    The counts are not added up, because plain SQL may have stored some whose sum leaves the type of the column.
    """
    counts = (group.c.failed, group.c.cancelled, group.c.aborted, group.c.lost)
    return sa.func.greatest(*counts, type_=sa.BigInteger()) > 0


def _finish_statement() -> Any:
    """Count the members of groups, write down the counts and the end."""
    group = workflows.alias("ended_group")
    member = jobs.alias("counted")
    own = (
        sa.select(*(sa.func.count().filter(member.c.status == status_literal(end)).label(end.value) for end in ENDS))
        .where(member.c.workflow_id == group.c.id)
        .lateral("own")
    )
    part = workflows.alias("part_of_it")
    names = [*(end.value for end in ENDS), "lost"]
    of_parts = (
        sa.select(
            *(sa.cast(sa.func.coalesce(sa.func.sum(part.c[name]), 0), sa.BigInteger).label(name) for name in names)
        )
        .where(part.c.root_id == group.c.root_id, part.c.parent_id == group.c.id)
        .lateral("of_parts")
    )
    counted = (
        sa.select(
            group.c.id,
            *((own.c[end.value] + of_parts.c[end.value]).label(end.value) for end in ENDS),
            (group.c.lost + of_parts.c.lost).label("lost"),
        )
        .select_from(group.join(own, sa.true()).join(of_parts, sa.true()))
        .where(
            group.c.id == sa.any_(_IDS),
            group.c.finished_at.is_(None),
            ~has_open_member(group),
            # One snapshot shows the deletion of a member together with the arrival that counts it.
            group.c.id.not_in(sa.select(sa.func.unnest(arrivals.c.lost))),
        )
        .cte("counted_groups")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return (
        sa.update(workflows)
        .where(workflows.c.id == counted.c.id)
        .values(finished_at=sa.func.now(), **{name: counted.c[name] for name in names})
        .returning(workflows.c.id, workflows.c.parent_id)
    )


_FINISH_GROUPS = _finish_statement()


def finish_groups(connection: sa.Connection, groups: set[int], lost: Counter[int], changer: Changer) -> FinishedGroups:
    """Finish the groups without an open member, and the groups around them.

    A session that adds to a group holds its row until the commit. So the row is locked first, and the members are
    looked at by a statement that begins after that.

    A group stays open while an arrival that is not taken yet counts deleted members of it. A later look takes it.

    Parameters
    ----------
    lost:
        The number of deleted members of each group. They did not end.
    """

    def finish(ids: Sequence[int]) -> list[tuple[int, int | None]]:
        for group in ids:
            if lost[group]:
                connection.execute(_LOSE, {"group_id": group, "number": lost[group]})
        return [(row.id, row.parent_id) for row in connection.execute(_FINISH_GROUPS, {"ids": list(ids)})]

    outcome = FinishedGroups()
    while groups:
        with_lost = groups & lost.keys()
        ended = set(connection.execute(_SEEM_ENDED, {"ids": sorted(groups)}).scalars())
        ended |= set(connection.execute(_OPEN, {"ids": sorted(with_lost)}).scalars()) if with_lost else set()
        if not ended:
            break
        locked = sorted(connection.execute(_LOCK_GROUPS, {"ids": sorted(ended)}).scalars())
        finished = changer.change(locked, finish) if locked else []
        outcome.left += sorted((ended - set(locked)) | changer.refused.keys() & ended)
        outcome.finished += [group for group, _ in finished]
        groups = {parent for _, parent in finished if parent is not None}
    return outcome
