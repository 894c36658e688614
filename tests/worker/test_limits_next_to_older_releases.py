"""Limits hold while workers of an older release run next to those of this one."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

from procrastinate import App
from tests.faults.release import revision_named, unpack_release_before
from tests.faults.worker_process import ROOT
from tests.worker.deployed_program import app as program
from tests.worker.running import Queue, until
from tests.worker.test_limits import LEFT

LONG = bool(os.environ.get("PROCRASTINATE_TESTS_LONG"))
JOBS = 300 if LONG else 30
"""How many jobs of each task there are."""
PROGRAM = ("tests/__init__.py", "tests/worker/__init__.py", "tests/worker/deployed_program.py")
BROUGHT = {
    "0014": ("limited",),
    "0015": ("limited",),
    "0018": ("limited", "rated"),
    "0019": ("limited", "rated", "fair"),
    "0020": ("limited", "rated", "fair"),
    "0022": ("limited", "rated", "fair"),
}
"""Revisions, and the limits of the release before each that it knows, or leaves to the others."""
CHOSEN = tuple(BROUGHT) if LONG else ("0014", "0020")
CLAIMED_BY = "SELECT count(DISTINCT worker_id) FROM ledger"
LEDGER = """
CREATE TABLE ledger (
    limit_name text, limit_key text, worker_id bigint, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    change integer NOT NULL
);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger (limit_name, limit_key, worker_id, change)
    SELECT NEW.limit_name, NEW.limit_key, coalesce(NEW.worker_id, OLD.worker_id),
        coalesce(NEW.limit_weight, 1) * CASE WHEN NEW.status = 'doing' THEN 1 ELSE -1 END;
    RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON procrastinate_jobs
    FOR EACH ROW WHEN ((OLD.status = 'doing') <> (NEW.status = 'doing')) EXECUTE FUNCTION note();
"""
MOST_OF_A_KEY = """
SELECT max(held) FROM (
    SELECT sum(change) OVER (PARTITION BY limit_key ORDER BY at, change) AS held
    FROM ledger WHERE limit_name = 'limited'
) AS counted
"""
MOST_OF_ALL = """
SELECT max(held) FROM (
    SELECT sum(change) OVER (ORDER BY at, change) AS held FROM ledger WHERE limit_name = 'fair'
) AS counted
"""
MOST_IN_A_WINDOW = """
SELECT max(number) FROM (
    SELECT count(*) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND interval '0.4999 s' FOLLOWING) AS number
    FROM ledger WHERE limit_name = 'rated' AND change > 0
) AS counted
"""


def start(root: pathlib.Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.worker.deployed_program", url, "8"]
    return subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL)


async def defer_jobs(opened: App, names: Sequence[str], weights: Sequence[int]) -> None:
    with program.replace_connector(opened.connector) as deferring:
        for name in (*names, "unlimited"):
            task = deferring.tasks[name]
            for weight in weights if name == "limited" else (None,):
                calls = [{"number": number} for number in range(JOBS // len(weights))]
                await (task if weight is None else task.configure(weight=weight)).batch_defer_async(*calls)


@pytest.mark.timeout(600 if LONG else 120)
@pytest.mark.parametrize("number", CHOSEN)
async def test_limits_hold_next_to_workers_of_the_release_before(
    queue: Queue, database_url: str, tmp_path: pathlib.Path, number: str
) -> None:
    """Before 0014 there were no limits. Heavy jobs came with 0020."""
    before = unpack_release_before(revision_named(number), tmp_path / "before", PROGRAM)
    queue.sql(LEDGER)
    processes = [start(root, database_url) for root in (before, before, ROOT)]
    try:
        await until(lambda: queue.sql("SELECT count(*) FROM procrastinate_workers") == 3)
        async with App(connector=database_url).open_async() as opened:
            await until(lambda: len(opened.limits.list()) == 3)
            await defer_jobs(opened, BROUGHT[number], (1, 2) if number == "0020" else (1,))
            await until(lambda: queue.sql(CLAIMED_BY) > 1)
            processes[0].kill()
            while left := queue.sql(LEFT):
                await until(lambda left=left: queue.sql(LEFT) < left)  # type: ignore[misc]
            assert {(one.held, one.in_line) for one in await opened.limits.list_async()} == {(0, 0)}
    finally:
        for process in processes:
            process.kill()
            await asyncio.to_thread(process.wait)
    assert queue.sql(MOST_OF_A_KEY) == 2
    assert (queue.sql(MOST_OF_ALL) or 0) <= 3
    assert (queue.sql(MOST_IN_A_WINDOW) or 0) <= 8
