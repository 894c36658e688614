"""The load of the tabs above the list of jobs: how many jobs are in each state."""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from procrastinate.core.inspection.bounds import Count, bounded_count, load, to_count
from procrastinate.core.inspection.states import WALKS
from procrastinate.core.job_states import JobState
from procrastinate.core.operation_marks import may_lag

_COUNTED = 1_000
_COUNTS: Any = sa.select(
    *[bounded_count(WALKS[state].select(sa.literal_column("1")), _COUNTED).label(state.value) for state in JobState]
)


@may_lag
@load
def count_states(connection: sa.Connection, now: datetime.datetime) -> dict[JobState, Count]:
    """Return the number of jobs in each state, at most 1,000."""
    counts = connection.execute(_COUNTS).one()
    return {state: to_count(counts._mapping[state.value], _COUNTED) for state in JobState}
