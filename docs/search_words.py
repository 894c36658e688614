"""The words under which readers look for a section, if the section itself names its subject otherwise.

The site search and the index of the site find a section by each phrase. A heading is named by its text, and the page by
its title. A phrase is what people type, not a sentence.
"""

from __future__ import annotations

import re
from typing import Any

_TITLE = ""
"""Stands for the title of the page."""

WORDS: dict[str, dict[str, str]] = {
    "howto/queues": {
        _TITLE: """
            concurrency per queue, separate worker for a slow queue, dedicated worker, starvation, two queues,
            several queues, fast and slow queue, number of workers, priority queue""",
    },
    "howto/test-a-view": {
        _TITLE: """
            test a view, test view, view test, test client, test an endpoint, assert that a job was deferred, assert job
            was deferred""",
    },
    "howto/worker-in-fastapi": {
        _TITLE: """
            worker inside fastapi, fastapi lifespan worker, run a worker inside fastapi, worker in web process,
            worker in the same process, run worker in same process as web app, embed a worker,
            fastapi background worker, background worker same process""",
        "Logs": """
            uvicorn log-config, uvicorn logging, fastapi logging, fastapi json logs""",
    },
    "howto/waiting": {
        "How many jobs wait?": """
            queue length, queue size, queue depth, backlog, count jobs, number of pending jobs, count pending jobs,
            jobs in queue, jobs per queue, number of jobs per queue, how many jobs are waiting, latency""",
        "Why does a job not run?": """
            job not running, job never runs, jobs not picked up, job does not start, job stays todo, stuck jobs""",
        "Retry all failed jobs of a task": """
            retry failed jobs, restart failed jobs, requeue failed jobs, rerun jobs, dead letter queue""",
        "Cancel or abort a job": """
            cancel job, abort job, stop a job, revoke, kill a job""",
    },
    "howto/progress": {
        _TITLE: """
            progress bar, update progress, job progress, percent done, live status, polling""",
    },
    "howto/schedules": {
        _TITLE: """
            dynamic cron, dynamic schedule, create a cron job, cron expression, next tick,
            user-defined schedules, periodic task at run time, add periodic
            task at runtime, cron in database, schedules in database, schedule per user, change schedule""",
        "Missed ticks and clock changes": """
            daylight saving time, dst, time zone of a user""",
    },
    "howto/tenants": {
        _TITLE: """
            multi-tenant, saas, schema per tenant, multi-tenancy, multi tenancy, multitenancy, tenants""",
        "A queue in each of several databases, with Django": """
            django multiple databases, queue per database, database per tenant, django database per tenant""",
        "Several databases": """
            multiple databases, second database, sharding, database router""",
        "One queue, in another database": """
            second database django, database alias""",
    },
    "howto/django-tenants": {
        _TITLE: """
            django-tenants, schema per tenant django, tenant schemas, postgresql schema per tenant""",
    },
    "howto/migrations": {
        _TITLE: """
            migration job, migrate in kubernetes, init container, initcontainer, own tables, alembic upgrade,
            order of migrations, rollback, helm hook""",
        "The order of a release": """
            zero downtime migration, rename a column, new argument of a task""",
    },
    "howto/encrypt": {
        _TITLE: """
            encrypt arguments, encryption, fernet, json_dumps,
            sensitive data, personal data, gdpr, secrets in arguments""",
    },
    "howto/errors-and-traces": {
        "Sentry": """
            sentry, sentry sdk, send errors, error tracking, error reporting, exception reporting, crash reports""",
        "Other error reporters": """
            rollbar, bugsnag, middleware""",
        "OpenTelemetry": """
            distributed tracing, opentelemetry flask, opentelemetry fastapi, opentelemetry django, otlp""",
    },
    "howto/logs": {
        _TITLE: """
            json logs, structured logging, structlog, log format, log as json""",
        "In Django": """
            django json logs, django logging""",
        "Arguments": """
            hide arguments in logs, personal data in logs""",
    },
    "howto/development": {
        "Restart the worker when code changes": """
            autoreload, auto-reload, hot reload, reload, watchfiles, watch files""",
        "Without a worker": """
            run jobs without a worker, eager mode""",
    },
    "workflows": {
        _TITLE: """
            workflow, dag, dependencies between jobs""",
        "Steps": """
            chain tasks, job dependencies, run job after other job finished, run after another job has finished,
            chain, pipeline, run one task after another, run a task after another, depends on""",
        "Groups": """
            batch callback, callback when finished, wait for all jobs, batch, chord, callback, run when all are
            done, know when 1000 jobs are done,
            callback when all jobs finished, fan out, map reduce, notified when all jobs are done""",
    },
    "limits": {
        _TITLE: """
            limit concurrency, concurrency limit, max concurrent jobs, at most 3 jobs at once,
            at most 3 at once, at most three jobs,
            semaphore, how many at once""",
        "A limit for each customer": """
            limit per customer, limit per key, limit per tenant""",
        "Limit the starts in a window of time": """
            rate limit, rate limiting, api calls, rate_limit, throttle 10 per second,
            rate limit 10 per second, 10 a second, per second, per
            minute, jobs per second, throttle""",
        "Wait when a service asks for it": """
            retry after 429, 429 too many requests, retry-after header, hold off, circuit breaker, api is down, back off
            when an api is down, service unavailable, 503""",
        "Let the keys take turns": """
            round robin, fair scheduling""",
    },
    "watching": {
        _TITLE: """
            dashboard, web ui, user interface, monitoring ui, flower""",
        "On the terminal": """
            top, terminal ui""",
        "Pause a queue": """
            pause queue, disable a queue, resume queue, stop queue temporarily, pause a queue""",
        "Change many jobs at once": """
            bulk retry, bulk cancel, retry all failed jobs""",
    },
    "howto/job-logs": {
        _TITLE: """
            kept logs, logs of one job, output of a job, what a job printed, log lines in the dashboard""",
        "The stack of a running job": """
            stack trace of a running job, hanging job, blocked event loop, py-spy""",
    },
    "many-tenants": {
        _TITLE: """
            multi-tenancy, tenant fairness, fair queue, noisy neighbour, starve, tenant starvation,
            slow tenant starves others, one customer blocks the others, fairness between customers, quota per
            customer, limit per tenant""",
        "Row security": """
            row level security, rls""",
    },
    "doctor": {
        _TITLE: """
            diagnose, check configuration, misconfiguration, diagnostics""",
        "Before a deployment": """
            check before deploy, removed task, renamed task""",
    },
    "tasks-in-a-process": {
        _TITLE: """
            subprocess, fork, memory leak, context variables, thread local""",
    },
    "why": {
        _TITLE: """
            job stuck, stuck job, job not running, job does not run, job stays todo, pending job, waiting job, why
            is my job not running""",
        "Why does my periodic task not run?": """
            periodic task not running, cron not running""",
    },
    "deployment": {
        "Stop and restart": """
            graceful shutdown, sigterm, zero downtime""",
        "Delete old jobs": """
            delete old jobs, remove old jobs, cleanup, clean up finished jobs, cleanup finished jobs every night,
            retention, purge, vacuum jobs, table grows""",
        "Several processes": """
            multiple processes, multiprocessing, cpu cores""",
    },
    "tutorial-deployment": {
        "systemd": """
            systemd, systemd unit, service""",
        "Docker": """
            docker, docker compose, container""",
        "Kubernetes": """
            kubernetes, k8s, helm""",
        "What a health check tests": """
            health check, liveness probe, readiness probe, kubernetes liveness probe, healthchecks""",
    },
    "database": {
        "Behind PgBouncer": """
            pgbouncer, asyncpg pgbouncer, statement_cache_size, prepare_threshold, django pgbouncer,
            connection pooler, transaction pooling, transaction mode, pgcat, connection pooler
            transaction mode, supavisor""",
    },
    "operations": {
        "The backlog grows": """
            backlog grows, queue grows, incident, too many jobs""",
        "A job is stuck": """
            stuck job, stalled job, job in doing""",
        "Upgrade PostgreSQL": """
            pg_upgrade, upgrade postgresql, upgrade postgresql major version,
            upgrade postgresql version, postgres major upgrade, postgresql upgrade,
            reindex, logical replication""",
        "Restore a backup": """
            backup, restore, pg_dump, pg_restore""",
    },
    "scaling-out": {
        "Several databases": """
            sharding, shards, multiple databases""",
        "Several databases in FastAPI": """
            fastapi several databases, fastapi multiple databases, several apps in a lifespan, open several apps""",
    },
    "metrics-and-traces": {
        "Metrics for Prometheus": """
            prometheus, prometheus metrics, grafana, monitoring, monitoring alerts, alerting, export metrics,
            statsd, datadog""",
        "Scale workers with KEDA": """
            keda, autoscaling, autoscale workers""",
        "Add metadata when jobs are deferred": """
            request id, correlation id, request id correlation, pass a request id to a job""",
        "Traces with OpenTelemetry": """
            opentelemetry, tracing, traces, spans, trace a request to its job, otel""",
    },
    "standalone": {
        "The worker": """
            background worker, start a worker from a program, worker in a script""",
        "Flask and FastAPI": """
            fastapi, flask""",
    },
    "tasks": {
        "Retries": """
            retry, backoff, exponential backoff, max retries, autoretry""",
        "Timeouts": """
            time limit, timeout""",
        "Results and errors": """
            result backend, return value, get result""",
        "Locks": """
            lock, mutex, one at a time""",
        "Periodic tasks": """
            cron, periodic task, scheduled task, beat, crontab""",
    },
    "concepts": {
        "Which job comes first": """
            priority, eta, countdown, delay, schedule_in, schedule_at, job order, fifo""",
    },
    "unique-jobs": {
        _TITLE: """
            deduplicate, deduplication, duplicate jobs, idempotency, idempotent, unique job, unique""",
        "Throttle": """
            throttle""",
        "Debounce": """
            debounce""",
    },
    "testing": {
        _TITLE: """
            test a view, assert that a job was deferred, test view, unit tests, pytest fixture, how to test""",
        "Immediate mode": """
            eager, task_always_eager, synchronous, immediate""",
    },
    "moving-in": {
        _TITLE: """
            upgrade 3.x, upgrading, migrate the database, upgrade from version 3, migrate from procrastinate 3,
            existing jobs, migrate database from 3, data migration, keep jobs when upgrading""",
    },
    "from-celery": {
        _TITLE: """
            celery, differences to celery, migrate from celery, apply_async, shared_task, delay, celery beat, canvas""",
    },
    "howto/celery-in-django-and-flask": {
        "Django": """
            django celery, celery django, django-celery-beat, delay_on_commit""",
        "Flask": """
            flask celery, celery flask, celery_init_app""",
    },
    "from-others": {
        _TITLE: """
            rq, huey, dramatiq, django-q2, django-q, migrate from rq""",
    },
}

_HEADING = re.compile(r"^(#{1,3}) (?P<text>.+)$", re.MULTILINE)


def with_entries(page: str, text: str) -> str:
    """Return the text of a page with an entry of the index for each phrase, above the paragraph that it leads to.

    Raises
    ------
    ValueError
        The page lacks one of the headings.
    """
    phrases = dict(WORDS.get(page, {}))
    pieces, fenced = [], False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        pieces.append(line)
        found = None if fenced else _HEADING.match(line)
        if found is None:
            continue
        key = _TITLE if len(found[1]) == 1 else found["text"].strip()
        if key in phrases:
            # The search puts the main entries of a phrase before its other results.
            entries = ", ".join(f"!{phrase.strip()}" for phrase in " ".join(phrases.pop(key).split()).split(","))
            pieces.append(f"\n```{{index}} {entries}\n```\n")
    if phrases:
        raise ValueError(f"docs/search_words.py names headings that {page} has not: {sorted(phrases)}")
    return "".join(pieces)


def _add_entries(app: Any, name: str, source: list[str]) -> None:
    source[0] = with_entries(name, source[0])


def _add_words(app: Any, doctree: Any) -> None:
    """Add the words of the phrases to those of the page, so that a question finds it that has further words."""
    from docutils import nodes  # of Sphinx, which tests of the headings do without

    phrases = " ".join(WORDS.get(app.env.docname, {}).values())
    words = sorted(set(re.findall(r"\w+", phrases)))
    if words:
        doctree.insert(0, nodes.meta(name="keywords", content=",".join(words)))


def setup(app: Any) -> dict[str, Any]:
    """Add the phrases to the index of the site, and their words to its search."""
    # Sphinx reads all pages again when the phrases change, not only pages that are newer than the last build.
    app.add_config_value("search_words", WORDS, "env")
    app.connect("source-read", _add_entries)
    app.connect("doctree-read", _add_words)
    return {"parallel_read_safe": True}
