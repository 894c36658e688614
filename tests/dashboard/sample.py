"""A queue with a bit of everything, for pages to show."""

from __future__ import annotations

import sqlalchemy as sa

import procrastinate
from procrastinate.adapters.standalone import SQLAlchemyConnector

_HOSTILE = "<script>alert(1)</script>"

_STATEMENTS = (
    """
    INSERT INTO procrastinate_workers (
        id, last_heartbeat, stalled_timeout, name, hostname, pid, version, queues, concurrency, running, fetched_ahead,
        started_at, last_fetch_at, loop_beat_at, state
    ) VALUES
        (-7001, now(), 36000, 'worker', 'web-1', 4101, '4.0.0', '{mail,images}', 8, 3, 12,
            now() - interval '2 days', now(), now(), 'running'),
        (-7002, now() - interval '3 min', 30, 'reports', 'batch-1', 977, '4.0.0', '{reports}', 2, 1, 0,
            now() - interval '5 hours', now() - interval '3 min', now() - interval '3 min', 'running')
    """,
    "INSERT INTO procrastinate_paused_queues (queue_name, reason, paused_by) "
    "VALUES ('newsletter', 'The provider limits us', 'ada')",
    # The last hour: more and more mails, some failures.
    """
    INSERT INTO procrastinate_jobs
        (queue_name, task_name, args, status, attempts, worker_id, finished_at, priority)
    SELECT
        (ARRAY['mail', 'mail', 'images', 'reports'])[1 + mod(n, 4)],
        (ARRAY['shop.mail.send_receipt', 'shop.mail.send_newsletter', 'shop.images.resize', 'shop.reports.build'])
            [1 + mod(n, 4)],
        jsonb_build_object('order', 1000 + n, 'to', 'ada@example.com', 'api_token', 'secret ' || n),
        (CASE WHEN mod(n, 17) = 0 THEN 'failed' WHEN mod(n, 61) = 0 THEN 'cancelled' ELSE 'succeeded' END)
            ::procrastinate_job_status,
        1 + CASE WHEN mod(n, 17) = 0 THEN 2 ELSE 0 END,
        -7001,
        now() - (n * n / 900.0) * interval '1 second',
        0
    FROM generate_series(1, 1700) AS n
    """,
    "DELETE FROM procrastinate_events",
    """
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, type::procrastinate_job_event_type, finished_at - before * interval '1 second'
    FROM procrastinate_jobs, (VALUES ('deferred', 4.2), ('started', 0.0)) AS event (type, before)
    CROSS JOIN LATERAL (SELECT 1) AS one
    """,
    "UPDATE procrastinate_events SET at = at - (0.3 + mod(job_id, 23) / 9.0) * interval '1 second' "
    "WHERE type = 'started' OR type = 'deferred'",
    """
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, status::text::procrastinate_job_event_type, finished_at FROM procrastinate_jobs
    """,
    """
    INSERT INTO procrastinate_errors (job_id, attempt, worker_id, at, exception_class, message, traceback)
    SELECT id, attempt, -7001, finished_at - (3 - attempt) * interval '20 seconds',
        (ARRAY['smtplib.SMTPServerDisconnected', 'requests.exceptions.ReadTimeout', 'shop.errors.OrderMissing'])
            [1 + mod(id / 17, 3)],
        (ARRAY['Connection unexpectedly closed', 'HTTPSConnectionPool(host=''images'', port=443): Read timed out.',
            'Order ' || id || ' does not exist'])[1 + mod(id / 17, 3)],
        E'Traceback (most recent call last):\\n' || (ARRAY[
            E'  File "/srv/shop/mail.py", line 41, in send_receipt\\n    server.send_message(message)\\n'
            || E'  File "/usr/lib/python3.13/smtplib.py", line 405, in getreply\\n'
            || E'    raise SMTPServerDisconnected("Connection unexpectedly closed")\\n'
            || E'smtplib.SMTPServerDisconnected: Connection unexpectedly closed\\n',
            E'  File "/srv/shop/pictures.py", line 23, in fetch\\n    answer = requests.get(address, timeout=10)\\n'
            || E'  File "/srv/lib/requests/adapters.py", line 713, in send\\n'
            || E'    raise ReadTimeout(e, request=request)\\n'
            || E'requests.exceptions.ReadTimeout: HTTPSConnectionPool(host=''images'', port=443): Read timed out.\\n',
            E'  File "/srv/shop/orders.py", line 88, in find\\n    raise OrderMissing(order_id)\\n'
            || E'shop.errors.OrderMissing: Order ' || id || E' does not exist\\n'])[1 + mod(id / 17, 3)]
    FROM procrastinate_jobs, generate_series(1, 3) AS attempt WHERE status = 'failed'
    ORDER BY finished_at, attempt
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id, lock, attempts)
    SELECT 'images', 'shop.images.resize', jsonb_build_object('image', n, 'width', 800), 'doing', -7001,
        CASE n WHEN 1 THEN 'gallery 12' END, 0
    FROM generate_series(1, 3) AS n
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id)
    VALUES ('reports', 'shop.reports.build', '{"month": "2026-10"}', 'doing', -7002)
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock, readiness)
    SELECT 'images', 'shop.images.resize', jsonb_build_object('image', 100 + n), 'gallery 12', 2
    FROM generate_series(1, 6) AS n
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority)
    SELECT 'mail', 'shop.mail.send_newsletter', jsonb_build_object('edition', 48, 'reader', n), mod(n, 2) * 5
    FROM generate_series(1, 240) AS n
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)
    SELECT 'reports', 'shop.reports.build', jsonb_build_object('month', n), now() + n * interval '45 minutes'
    FROM generate_series(1, 12) AS n
    """,
    """
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, 'started', now() - mod(id, 5) * interval '50 seconds' - interval '8 seconds'
    FROM procrastinate_jobs WHERE status = 'doing'
    """,
    """
    UPDATE procrastinate_events SET at = at - interval '7 minutes' WHERE job_id IN (
        SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND queue_name = 'mail' LIMIT 40
    ) AND type = 'deferred'
    """,
)

LIMIT = """
    INSERT INTO procrastinate_limits (name, concurrency, total, rates) VALUES ({name}, 2, 20, '10/1.0 500/3600.0')
"""
LIMITED_JOBS = """
    INSERT INTO procrastinate_jobs
        (queue_name, task_name, status, worker_id, limit_name, limit_key, readiness, scheduled_at)
    SELECT 'api', 'shop.api.call', CASE WHEN n <= 2 THEN 'doing' ELSE 'todo' END::procrastinate_job_status,
        CASE WHEN n <= 2 THEN -7001 END, {name}, {key}, CASE WHEN n <= 2 THEN 0 ELSE 3 END,
        CASE WHEN n > 2 THEN now() END
    FROM generate_series(1, {number}) AS n
"""
"""Two jobs with a slot, and others in line."""

_HOSTILE_STATEMENTS = (
    f"""
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, lock, queueing_lock) VALUES
        ('{_HOSTILE}', '{_HOSTILE}', '{{"a": "{_HOSTILE}"}}', '{_HOSTILE}', 'x'' onmouseover=''alert(1)'),
        (E'q\\u202Egnp.exe\\u0007', E'shop.\\u202Etask\\u001b[31m', '[1, 2]', E'a\\nb', NULL)
    """,  # noqa: S608
    "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('never', 'shop.never', 'infinity')",
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args)
    VALUES ('large', 'shop.large', jsonb_build_object('text', repeat('0123456789', 1000000)))
    """,
    """
    INSERT INTO procrastinate_jobs (queue_name, task_name, status, finished_at)
    VALUES ('old', 'shop.old', 'failed', '-infinity')
    """,
    LIMIT.format(name=f"'{_HOSTILE}'"),
    LIMITED_JOBS.format(name=f"'{_HOSTILE}'", key=f"'{_HOSTILE}'", number=5),
    LIMITED_JOBS.format(name="E'no\\u202E definition\\u0007'", key="''", number=1),
    f"""
    INSERT INTO procrastinate_errors (job_id, attempt, exception_class, message, traceback)
    SELECT max(id), 1, '{_HOSTILE}', '{_HOSTILE}', E'{_HOSTILE}\\n\\u202E' FROM procrastinate_jobs
    """,  # noqa: S608
)


def fill(engine: sa.Engine, *, hostile: bool = False) -> None:
    """Fill an empty queue with jobs in all states and, if wanted, with rows that no program should write."""
    with engine.begin() as connection:
        for statement in (*_STATEMENTS, *(_HOSTILE_STATEMENTS if hostile else ())):
            connection.exec_driver_sql(statement.replace("%", "%%"))
    add_workflow(engine, "catalogue" if not hostile else _HOSTILE)


def add_workflow(engine: sa.Engine, name: str) -> int:
    """Store a workflow with a group, of which some steps have ended, and return its id."""
    with procrastinate.App(connector=SQLAlchemyConnector(engine)).open() as app:
        step = app.task(name="shop.catalogue.work", queue="catalogue")(_do_nothing)
        wf = app.workflow(name)
        fetched = wf.add(step, step="fetch the price list")
        checked = wf.add(step, step="check the images", after=[fetched])
        pages = wf.group(f"pages of {name}", after=[fetched])
        added = pages.add_many(step, [{"page": number} for number in range(400)])
        approved = wf.add_signal("approved")
        wf.add(step, step=f"publish {name}", after=[pages, checked, approved])
        wf.on_failure(app.task(name="shop.catalogue.tell_the_shop", queue="catalogue")(_do_nothing))
        workflow_id = wf.defer()
    ids = {"fetched": fetched.job_id, "checked": checked.job_id, "first": added[0].job_id}
    with engine.begin() as connection:
        for statement in _PROGRESS:
            connection.execute(sa.text(statement), ids)
    return workflow_id


_PROGRESS = (
    "UPDATE procrastinate_jobs SET status = 'succeeded', finished_at = now() WHERE id = :fetched",
    "UPDATE procrastinate_jobs SET status = 'failed', finished_at = now() WHERE id = :checked",
    "UPDATE procrastinate_jobs SET status = 'succeeded', finished_at = now() WHERE id BETWEEN :first AND :first + 129",
    "UPDATE procrastinate_jobs SET status = 'doing', worker_id = -7001 WHERE id BETWEEN :first + 130 AND :first + 133",
)


def make_app(database_url: str) -> procrastinate.App:
    """Return an app whose tasks are those of the sample, with two periodic ones."""
    app = procrastinate.App(connector=database_url)
    app.task(name="shop.hides", queue="mail", log_arguments=False)(_do_nothing)
    for name in ("shop.mail.send_receipt", "shop.mail.send_newsletter", "shop.images.resize", "shop.reports.build"):
        app.task(name=name, queue=name.split(".")[1])(_do_nothing)
    app.periodic(cron="*/10 * * * *")(app.task(name="shop.reports.sum_up", queue="reports")(_do_nothing))
    app.periodic(cron="0 4 * * 1", periodic_id="weekly", timezone="Europe/Paris")(
        app.task(name="shop.mail.remind", queue="mail")(_do_nothing)
    )
    return app


def _do_nothing(**arguments: object) -> None:
    """Accept any arguments."""
