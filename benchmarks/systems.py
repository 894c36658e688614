"""The measured systems, and queries for the recorded outcomes of their jobs."""

from __future__ import annotations

import dataclasses

from benchmarks.environments import Environment


@dataclasses.dataclass(frozen=True)
class System:
    """A queue, and the programs in :mod:`benchmarks.peers` that drive it.

    Parameters
    ----------
    label:
        Name of the system in tables.
    programs:
        Prefix of the names of its driver programs.
    unfinished:
        A query for the number of jobs without a recorded outcome. It must be cheap, because it runs while the last
        outcomes are written.
    succeeded:
        A query for the number of jobs recorded as succeeded, including their history if the system keeps one.
    """

    label: str
    programs: str
    environment: Environment
    unfinished: str
    succeeded: str


_PROCRASTINATE_UNFINISHED = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
_PROCRASTINATE_SUCCEEDED = """
SELECT least(
    (SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'),
    (SELECT count(*) FROM procrastinate_events WHERE type = 'started'),
    (SELECT count(*) FROM procrastinate_events WHERE type = 'succeeded')
)
"""

OURS = System(
    label="this project",
    programs="procrastinate",
    environment=Environment("ours"),
    unfinished=_PROCRASTINATE_UNFINISHED,
    succeeded=_PROCRASTINATE_SUCCEEDED,
)
LIMITED = dataclasses.replace(OURS, label="this project, limits", programs="procrastinate_limited")
FORMER = System(
    label="procrastinate 3.10.0",
    programs="procrastinate",
    environment=Environment(
        "procrastinate-3.10.0", ("procrastinate[django]==3.10.0", "psycopg[binary,pool]>=3.2", "uvloop>=0.21")
    ),
    unfinished=_PROCRASTINATE_UNFINISHED,
    succeeded=_PROCRASTINATE_SUCCEEDED,
)
PGQUEUER = System(
    label="PGQueuer",
    programs="pgqueuer",
    environment=Environment("pgqueuer", ("pgqueuer[asyncpg]==1.6.0", "uvloop>=0.21")),
    unfinished="SELECT count(*) FROM pgqueuer WHERE true",
    succeeded="SELECT count(DISTINCT job_id) FROM pgqueuer_log WHERE status = 'successful'",
)
AWA = System(
    label="Awa",
    programs="awa",
    environment=Environment("awa", ("awa-pg==0.6.9", "uvloop>=0.21")),
    unfinished="SELECT count(*) FROM awa.jobs WHERE state <> 'completed'",
    succeeded="SELECT count(*) FROM awa.jobs WHERE state = 'completed'",
)
OBAN = System(
    label="Oban",
    programs="oban",
    environment=Environment("oban", ("oban==0.7.0", "psycopg[binary]>=3.2", "uvloop>=0.21"), python=(3, 12)),
    unfinished="SELECT count(*) FROM oban_jobs WHERE state <> 'completed'",
    succeeded="SELECT count(*) FROM oban_jobs WHERE state = 'completed'",
)
CELERY = System(
    label="Celery with Redis",
    programs="celery",
    environment=Environment("celery", ("celery[redis]==5.7.0",)),
    unfinished="",  # its jobs are in Redis, and its driver waits for the last result
    succeeded="",
)
CHANCY = System(
    label="Chancy",
    programs="chancy",
    environment=Environment("chancy", ("chancy==0.26.0", "psycopg[binary,pool]>=3.3.6", "uvloop>=0.21")),
    unfinished="SELECT count(*) FROM chancy_jobs WHERE state <> 'succeeded'",
    succeeded="SELECT count(*) FROM chancy_jobs WHERE state = 'succeeded'",
)
DJ_QUEUE = System(
    label="dj_queue",
    programs="dj_queue",
    environment=Environment("dj_queue", ("dj-queue==0.14.2", "psycopg[binary,pool]>=3.3.3"), python=(3, 12)),
    unfinished="SELECT count(*) FROM dj_queue_jobs WHERE finished_at IS NULL",
    succeeded="""
SELECT count(*) - (SELECT count(*) FROM dj_queue_failed_executions) FROM dj_queue_jobs WHERE finished_at IS NOT NULL
""",
)
RAW_SQL = System(
    label="raw SQL",
    programs="raw_sql",
    environment=Environment("ours"),
    unfinished="SELECT count(*) FROM raw_jobs WHERE status <> 'succeeded'",
    succeeded="""
SELECT least(
    (SELECT count(*) FROM raw_jobs WHERE status = 'succeeded'),
    (SELECT count(*) FROM raw_events WHERE type = 'succeeded')
)
""",
)
