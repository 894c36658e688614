"""Fetches of 3.10 while columns are added to its tables. One that answers with new columns would end its worker."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from procrastinate.alembic.adoption import statements
from tests.database import libpq_url
from tests.moving.rows import execute
from tests.moving.test_plan import run_steps

FETCH = "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"
LATE_FETCH = (
    "SELECT job.id FROM (SELECT pg_advisory_xact_lock(77)::text AS nothing) AS wait "
    "CROSS JOIN LATERAL procrastinate_fetch_job_v2(NULL, nullif(length(wait.nothing), length(wait.nothing))) AS job"
)


def wait_for(url: str, locks: str) -> None:
    """Wait until a session waits for a lock."""
    end = time.monotonic() + 60
    while execute(url, f"SELECT count(*) FROM pg_locks WHERE NOT granted AND {locks}") == [(0,)]:  # noqa: S608
        assert time.monotonic() < end, "No session waits for the lock"
        time.sleep(0.01)


def test_a_fetch_finds_nothing_while_the_columns_wait_for_their_lock(filled_url: str) -> None:
    """The session has fetched before, so it knows the columns of the answer."""
    run_steps(filled_url, number=2)
    patient = statements.ADD_COLUMNS.replace(statements.LOCK_TIMEOUT, "60s")
    url = libpq_url(filled_url)
    with (
        ThreadPoolExecutor(2) as pool,
        psycopg.connect(url) as holder,
        psycopg.connect(url, autocommit=True) as fetcher,
    ):
        assert fetcher.execute(FETCH).fetchone() != (None,)
        holder.execute("LOCK TABLE procrastinate_jobs IN ACCESS SHARE MODE")
        adding = pool.submit(execute, filled_url, patient)
        try:
            wait_for(filled_url, "relation = 'procrastinate_jobs'::regclass")
            fetch = pool.submit(lambda: fetcher.execute(FETCH).fetchone())
            assert fetch.result(timeout=20) == (None,)
            assert not adding.done()
        finally:
            holder.rollback()
        adding.result(timeout=60)


def test_a_fetch_that_begins_before_the_columns_and_comes_after_them_finds_nothing(filled_url: str) -> None:
    run_steps(filled_url, number=2)
    url = libpq_url(filled_url)
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(url, autocommit=True) as gate,
        psycopg.connect(url, autocommit=True) as fetcher,
    ):
        assert fetcher.execute(FETCH).fetchone() != (None,)
        gate.execute("SELECT pg_advisory_lock(77)")
        fetch = pool.submit(lambda: fetcher.execute(LATE_FETCH).fetchone())
        try:
            wait_for(filled_url, "locktype = 'advisory' AND objid = 77")
            execute(filled_url, statements.ADD_COLUMNS)
        finally:
            gate.execute("SELECT pg_advisory_unlock(77)")
        assert fetch.result(timeout=60) == (None,)
