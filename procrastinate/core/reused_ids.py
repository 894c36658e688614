"""Tell a job from an earlier one with the same id, which ``TRUNCATE ... RESTART IDENTITY`` has deleted."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from procrastinate.core.arrays import unnest
from procrastinate.core.enums import EventType
from procrastinate.core.fetch import microseconds
from procrastinate.core.tables import events

_claims = unnest({"id": sa.BigInteger(), "claimed_at": sa.BigInteger()}, name="claims")
_DEFERRED_AFTER = (
    sa.select(events.c.job_id)
    .join(_claims, events.c.job_id == _claims.c.id)
    .where(events.c.type == EventType.DEFERRED, microseconds(events.c.at) > _claims.c.claimed_at)
)


def list_deferred_after(connection: sa.Connection, claims: Mapping[int, int]) -> set[int]:
    """Return the ids of jobs that were deferred after a time. Such a job is not the one that was claimed then.

    A restore of the database and a lagging replica keep the time at which a job was deferred.

    Parameters
    ----------
    claims:
        The time of the claim for each id, in microseconds since 1970 by the database's clock
        (:attr:`~procrastinate.core.rows.StoredJob.claimed_at`).
    """
    parameters = {"id_list": list(claims), "claimed_at_list": list(claims.values())}
    return set(connection.execute(_DEFERRED_AFTER, parameters).scalars())
