"""The workers of one machine or container, for a health check that runs next to them."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from procrastinate.core.blocked_loops import seconds_blocked
from procrastinate.core.defaults import STALLED_TIMEOUT
from procrastinate.core.lock_timeouts import check_soon
from procrastinate.core.operation_marks import atomic
from procrastinate.core.tables import workers
from procrastinate.core.watchers import age, seconds_between


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostWorker:
    """What the database knows about a worker. Times are in seconds, by the database's clock.

    ``silent`` is the time since the last heartbeat, ``loop_lag`` the time from the last turn of the event loop to that
    heartbeat, and ``patience`` the time after which other workers take its jobs back. If ``has_lost_all_slots``,
    threads of jobs that have timed out go on in all its slots, and it starts no other job.
    """

    name: str
    pid: int
    silent: float
    loop_lag: float | None
    heartbeat_interval: float | None
    patience: float
    has_lost_all_slots: bool

    @property
    def blocked_for(self) -> float:
        """The seconds for which a job has blocked the event loop. A loop that turns is blocked for 0 seconds."""
        blocked = seconds_blocked(self.loop_lag, self.heartbeat_interval)
        return 0.0 if blocked is None else blocked + self.silent


_OF_HOST: sa.Select[Any] = (
    sa.select(
        workers.c.name,
        workers.c.pid,
        age(workers.c.last_heartbeat).label("silent"),
        seconds_between(workers.c.loop_beat_at, workers.c.last_heartbeat).label("loop_lag"),
        workers.c.heartbeat_interval,
        sa.func.coalesce(workers.c.stalled_timeout, sa.literal(STALLED_TIMEOUT, sa.Double())).label("patience"),
        sa.func.coalesce(workers.c.lost_threads >= workers.c.concurrency, sa.false()).label("has_lost_all_slots"),
    )
    .where(workers.c.hostname == sa.bindparam("hostname", type_=sa.Text()), workers.c.name.is_not(None))
    .order_by(workers.c.started_at, workers.c.pid)
)


@atomic
def list_workers_of_host(connection: sa.Connection, hostname: str) -> list[HostWorker]:
    """Return the workers of a host, the newest of each process and name. Those of 3.x do not say their host.

    Workers with several names may have one process id. They run in one process, or in containers with one host name.
    A health check is killed if it takes long, and its statement would go on waiting at the server, once for each check.
    """
    check_soon(connection)
    found = (HostWorker(**row._mapping) for row in connection.execute(_OF_HOST, {"hostname": hostname}))
    # A container that was started again has the pids of the one before, whose rows stay for a while.
    newest = {(worker.pid, worker.name): worker for worker in found}
    return list(newest.values())
