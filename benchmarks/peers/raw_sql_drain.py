"""The upper bound: fetches and finishes a hundred jobs per statement, fenced and with history, and nothing else."""

from __future__ import annotations

import time

import psycopg

from benchmarks.peers import driving

_BATCH = 100
_FETCH = """
WITH ready AS (
    SELECT id FROM raw_jobs WHERE status = 'todo' ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED
), started AS (
    UPDATE raw_jobs AS job SET status = 'doing', worker_id = 1 FROM ready WHERE job.id = ready.id
    RETURNING job.id, job.queue_name, job.task_name, job.args, job.attempts
), history AS (
    INSERT INTO raw_events (job_id, type) SELECT id, 'started' FROM started
)
SELECT * FROM started
"""
_FINISH = """
WITH finished AS (
    UPDATE raw_jobs AS job SET status = 'succeeded', attempts = job.attempts + 1
    FROM unnest(%s::bigint[], %s::int[]) AS batch (id, attempts)
    WHERE job.id = batch.id AND job.status = 'doing' AND job.worker_id = 1 AND job.attempts = batch.attempts
    RETURNING job.id
)
INSERT INTO raw_events (job_id, type) SELECT id, 'succeeded' FROM finished
"""

asked = driving.request()
effects = driving.Effects(asked["jobs"])
with psycopg.connect(asked["url"], autocommit=True) as connection:
    driving.say("ready")
    driving.wait_for_word()
    started_at, processor_before = time.time(), time.process_time()
    while jobs := connection.execute(_FETCH, (_BATCH,)).fetchall():
        for job in jobs:
            effects.add(job[3]["number"])
        connection.execute(_FINISH, ([job[0] for job in jobs], [job[4] for job in jobs]))
    driving.say_ran(effects, started_at, processor_before)
    driving.wait_for_word()
driving.say("done", **effects.summary())
