"""What Prometheus and an autoscaler read, by the parser of Prometheus's client."""

from __future__ import annotations

import json
import pathlib
import re
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client.parser import text_string_to_metric_families

import procrastinate
from procrastinate import core
from procrastinate.alembic import revisions
from procrastinate.app import App
from procrastinate.core import Readiness, inspection
from procrastinate.core.statistics import BUCKETS, Durations, Runs, record_runs
from procrastinate.limits import Limit
from procrastinate.metrics import metrics_asgi, metrics_wsgi
from procrastinate.metrics.families import MOST_TASKS
from procrastinate.retry import RetryStrategy
from tests.documentation.blocks import blocks_of
from tests.metrics.hosts import HOSTS, Host
from tests.worker.running import Queue, Workers, until

DOCS = pathlib.Path(procrastinate.__file__).parents[1] / "docs" / "metrics"
HOSTILE = 'a"} 1\n# TYPE x \\ \x1b[2K\u202e'

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, database_url: str) -> Iterator[Host]:
    with HOSTS[request.param](database_url, None) as opened:
        yield opened


@pytest.fixture
def open_host(database_url: str) -> Iterator[Callable[[str | None], Host]]:
    """Open a further host, whose answers are not kept yet."""
    with ExitStack() as stack:
        yield lambda token: stack.enter_context(HOSTS["wsgi"](database_url, token))


def read(host: Host) -> Samples:
    """Return all samples by name and labels."""
    reply = host.get("/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(reply.text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type != "unknown" for family in families)
    samples = [sample for family in families for sample in family.samples]
    found = {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples}
    assert len(found) == len(samples)
    return found


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"procrastinate_{name}", tuple(sorted(labels.items()))]


def insert(connection: sa.Connection, **columns: Any) -> None:
    names = ", ".join(columns)
    values = ", ".join(f"CAST(:{name} AS {_TYPES.get(name, 'text')})" for name in columns)
    connection.execute(sa.text(f"INSERT INTO procrastinate_jobs ({names}) VALUES ({values})"), columns)  # noqa: S608


_TYPES = {
    "scheduled_at": "timestamptz",
    "status": "procrastinate_job_status",
    "readiness": "smallint",
    "worker_id": "bigint",
}


def test_an_empty_queue_has_metrics(host: Host) -> None:
    samples = read(host)
    assert of(samples, "workers", state="alive") == 0
    assert of(samples, "stalled_jobs") == 0
    assert of(samples, "promotion_lag_seconds") == 0
    assert of(samples, "metrics_truncated", what="tasks") == 0


def test_unfinished_jobs_are_counted_by_queue_and_state(host: Host, connection: sa.Connection) -> None:
    connection.execute(sa.text("INSERT INTO procrastinate_paused_queues (queue_name) VALUES ('mail')"))
    insert(connection, queue_name="mail", task_name="t")
    insert(connection, queue_name="mail", task_name="t", scheduled_at="2999-01-01")
    insert(connection, queue_name="sums", task_name="t", status="doing", worker_id=1)
    insert(connection, queue_name="sums", task_name="t", scheduled_at="2020-01-01")
    samples = read(host)
    assert of(samples, "queue_jobs", queue="mail", state="ready") == 1
    assert of(samples, "queue_jobs", queue="mail", state="scheduled") == 1
    assert of(samples, "queue_jobs", queue="sums", state="running") == 1
    assert of(samples, "queue_paused", queue="mail") == 1
    assert of(samples, "queue_paused", queue="sums") == 0
    assert of(samples, "stalled_jobs") == 1
    assert of(samples, "promotion_lag_seconds") > 86400


@pytest.mark.parametrize("kind", HOSTS)
def test_a_hostile_name_of_a_queue_stays_a_label(kind: str, database_url: str, connection: sa.Connection) -> None:
    insert(connection, queue_name=HOSTILE, task_name="t")
    with HOSTS[kind](database_url, None) as host:
        samples = read(host)
        assert host.get("/metrics").text.replace("\n", "").isprintable()
    (name,) = {dict(labels)["queue"] for _, labels in samples if "queue" in dict(labels)}
    assert name == HOSTILE.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")


async def test_runs_are_counted_by_task_and_outcome(
    app: App, workers: Workers, queue: Queue, open_host: Callable[[str | None], Host]
) -> None:
    await app.task(name="add")(lambda: None).batch_defer_async({}, {})
    await app.task(name="divide", retry=RetryStrategy(max_attempts=1))(lambda: 1 / 0).defer_async()
    await workers.listening(queue, update_heartbeat_interval=0.05, stalled_worker_timeout=30)
    await until(lambda: queue.sql("SELECT sum(count) FROM procrastinate_statistics WHERE seconds = 0") == 4)
    samples = read(open_host(None))
    assert of(samples, "jobs_total", queue="default", task="add", outcome="succeeded") == 2
    assert of(samples, "jobs_total", queue="default", task="divide", outcome="failed") == 1
    assert of(samples, "jobs_total", queue="default", task="divide", outcome="retried") == 1
    assert of(samples, "job_duration_seconds_count", queue="default", task="divide") == 2
    assert of(samples, "job_duration_seconds_bucket", queue="default", task="divide", le="+Inf") == 2
    assert 0 < of(samples, "job_duration_seconds_sum", queue="default", task="divide") < 60


async def test_a_live_worker_and_its_slots_are_counted(
    workers: Workers, queue: Queue, open_host: Callable[[str | None], Host]
) -> None:
    await workers.listening(queue, concurrency=3, queues=["mail"])
    samples = read(open_host(None))
    assert of(samples, "workers", state="alive") == 1
    assert of(samples, "worker_slots", state="free") == 3


def test_the_number_of_series_is_bounded(host: Host, connection: sa.Connection) -> None:
    def runs(number: int) -> Runs:
        durations = Durations()
        for _ in range(2 if number < MOST_TASKS else 1):
            durations.add(0.3)
        return Runs(queue_name="q", task_name=f"task {number}", outcome="succeeded", run=durations)

    record_runs(connection, [runs(number) for number in range(MOST_TASKS + 50)])
    samples = read(host)
    counts = {labels: value for (name, labels), value in samples.items() if name == "procrastinate_jobs_total"}
    assert len(counts) == MOST_TASKS + 1
    assert of(samples, "jobs_total", queue="other", task="other", outcome="succeeded") == 50
    assert of(samples, "jobs_total", queue="q", task="task 0", outcome="succeeded") == 2
    assert of(samples, "metrics_truncated", what="tasks") == 1
    buckets = [value for (name, _), value in samples.items() if name == "procrastinate_job_duration_seconds_bucket"]
    assert len(buckets) == (MOST_TASKS + 1) * BUCKETS


def scale(host: Host, queues: str = "") -> dict[str, Any]:
    reply = host.get("/scale", f"queues={queues}" if queues else "")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    figures = json.loads(reply.text)
    assert isinstance(figures, dict)
    return figures


def test_an_autoscaler_sees_all_that_needs_a_worker(host: Host, connection: sa.Connection) -> None:
    """Without a worker, a due job is not ready. It counts, because otherwise no worker would start for it."""
    insert(connection, queue_name="a", task_name="t")
    insert(connection, queue_name="a", task_name="t", scheduled_at="2020-01-01")
    insert(connection, queue_name="a", task_name="t", scheduled_at="2999-01-01")
    insert(connection, queue_name="b", task_name="t", status="doing", worker_id=1, lock="held")
    insert(connection, queue_name="b", task_name="t", lock="held")
    insert(connection, queue_name="b", task_name="t", lock="free")
    assert scale(host).items() >= {"jobs": 4, "ready": 1, "due": 2, "running": 1, "is_capped": False}.items()
    assert scale(host, "a")["jobs"] == 2
    assert scale(host, "b,nothing")["jobs"] == 2
    assert scale(host, "nothing")["jobs"] == 0


def test_an_autoscaler_does_not_see_what_a_paused_queue_holds_back(host: Host, connection: sa.Connection) -> None:
    connection.execute(sa.text("INSERT INTO procrastinate_paused_queues (queue_name) VALUES ('a')"))
    insert(connection, queue_name="a", task_name="t")
    insert(connection, queue_name="a", task_name="t", status="doing", worker_id=1)
    assert scale(host, "a").items() >= {"jobs": 1, "ready": 0, "running": 1}.items()


def test_an_autoscaler_sees_a_queue_that_it_names_next_to_many_others(host: Host, connection: sa.Connection) -> None:
    for number in range(250):
        insert(connection, queue_name=f"a{number}", task_name="t")
    insert(connection, queue_name="z", task_name="t")
    assert scale(host, "z").items() >= {"jobs": 1, "ready": 1}.items()


def _wait_in_line(app: App, connection: sa.Connection) -> None:
    app.task(name="limited", queue="mail", limit=Limit("one", concurrency=1))(lambda: None).defer()


def _wait_for_signals_that_have_come(app: App, connection: sa.Connection) -> None:
    """Triggers release a step after one signal. Only a worker looks at several."""
    workflow = app.workflow("order")
    signals = [workflow.add_signal(name) for name in ("approved", "paid")]
    workflow.add(app.task(name="step", queue="mail")(lambda: None), after=signals)
    workflow_id = workflow.defer()
    for name in ("approved", "paid"):
        app.workflows.signal(workflow_id, name)


def _wait_since_a_pause_that_is_over(app: App, connection: sa.Connection) -> None:
    app.task(name="paused", queue="mail")(lambda: None)
    insert(connection, queue_name="mail", task_name="paused", scheduled_at="2020-01-01", readiness=Readiness.PARKED)


def _wait_behind_a_lock_that_is_free(app: App, connection: sa.Connection) -> None:
    app.task(name="locked", queue="mail")(lambda: None)
    insert(connection, queue_name="mail", task_name="locked", lock="free", readiness=Readiness.PARKED)


@pytest.mark.parametrize(
    "wait",
    [
        _wait_in_line,
        _wait_for_signals_that_have_come,
        _wait_since_a_pause_that_is_over,
        _wait_behind_a_lock_that_is_free,
    ],
)
def test_an_autoscaler_starts_the_first_worker_for_what_only_a_worker_can_free(
    open_host: Callable[[str | None], Host], database_url: str, connection: sa.Connection, wait: Callable[..., None]
) -> None:
    with App(connector=database_url).open() as app:
        wait(app, connection)
        before = scale(open_host(None), "mail")
        assert (before["jobs"], before["ready"], before["due"]) == (1, 0, 1)
        app.run_worker(queues=["mail"], wait=False, install_signal_handlers=False)
    assert set(connection.exec_driver_sql("SELECT status FROM procrastinate_jobs").scalars()) == {"succeeded"}
    assert scale(open_host(None), "mail")["jobs"] == 0


def test_a_line_whose_slots_are_taken_starts_no_worker(host: Host, connection: sa.Connection) -> None:
    columns = {"queue_name": "mail", "task_name": "t", "limit_name": "one", "limit_key": ""}
    insert(connection, **columns, status="doing", worker_id=1)
    insert(connection, **columns, scheduled_at="2020-01-01", readiness=Readiness.IN_LINE)
    assert scale(host, "mail").items() >= {"jobs": 1, "due": 0, "running": 1}.items()


def test_answers_are_kept_for_a_moment(host: Host, connection: sa.Connection) -> None:
    assert scale(host)["jobs"] == 0
    insert(connection, queue_name="a", task_name="t")
    assert scale(host)["jobs"] == 0
    assert scale(host, "a")["jobs"] == 1


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("path", ["/metrics", "/scale", "/nothing", "/"])
def test_a_request_needs_the_token(kind: str, path: str, database_url: str) -> None:
    with HOSTS[kind](database_url, "right") as host:
        for given in (None, "Bearer wrong", "Basic right", "Bearer ", "right", "Bearer \xff"):
            refused = host.get(path, authorization=given)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="procrastinate"')
        assert host.get(path, authorization="bearer right").status == (404 if path == "/nothing" else 200)


def test_other_requests_are_refused(host: Host) -> None:
    assert host.get("/metrics", method="POST").status == 405
    assert host.get("/metricsx").status == 404
    assert host.get("/scale", "queues=%00").status == 400
    for nothing in ("queues=", "queues=,", "queues=%20"):
        assert (host.get("/scale", nothing).status, "empty" in host.get("/scale", nothing).text) == (400, True)
    assert host.get("/scale", "queues=" + "a,b" * 500 + "".join(f",{n}" for n in range(300))).status == 400
    head = host.get("/metrics", method="HEAD")
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["content-length"]) > 0


def test_a_mounted_application_answers_at_its_root(host: Host) -> None:
    assert host.get("").text == host.get("/metrics").text


@pytest.mark.parametrize("kind", HOSTS)
def test_a_database_that_cannot_be_read_is_no_secret_in_the_answer(
    kind: str, database_url: str, connection: sa.Connection
) -> None:
    with HOSTS[kind](database_url, None) as host:
        connection.execute(sa.text("ALTER TABLE procrastinate_jobs RENAME TO gone"))
        reply = host.get("/metrics")
    assert (reply.status, reply.text) == (503, "The database cannot be read. See the log.\n")


@pytest.mark.parametrize("make", [metrics_asgi, metrics_wsgi])
@pytest.mark.parametrize("token", ["", " ", "a b", "\N{SNOWMAN}", "a\n"])
def test_a_token_that_no_header_can_have_is_refused(make: Callable[..., Any], token: str, app: App) -> None:
    with pytest.raises(ValueError, match="token=None"):
        make(app, token=token)


def _names(host: Host) -> set[str]:
    text = host.get("/metrics").text
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    histograms = set(re.findall(r"^# TYPE (\S+) histogram", text, re.MULTILINE))
    return names | {f"{name}{suffix}" for name in histograms for suffix in ("_bucket", "_sum", "_count")}


@pytest.mark.parametrize("file", ["grafana.json", "alerts.yml"])
def test_the_board_and_the_alerts_use_metrics_that_exist(host: Host, file: str) -> None:
    used = set(re.findall(r"procrastinate_\w+", (DOCS / file).read_text()))
    assert len(used) > 5
    assert used <= _names(host)


def test_the_board_and_the_alerts_can_be_read() -> None:
    board = json.loads((DOCS / "grafana.json").read_text())
    panels = board["panels"]
    assert all(target["expr"].count("(") == target["expr"].count(")") for one in panels for target in one["targets"])
    assert len({one["id"] for one in panels}) == len(panels)
    (group,) = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    assert all({"alert", "expr", "for", "labels", "annotations"} == rule.keys() for rule in group["rules"])


def test_locks_without_a_holder_are_counted_until_a_sweep(
    connection: sa.Connection, open_host: Callable[[str | None], Host]
) -> None:
    for lock in ("held", "orphan", "another"):
        insert(connection, queue_name="q", task_name="t", lock=lock, readiness=str(int(core.Readiness.PARKED)))
    insert(connection, queue_name="q", task_name="t", lock="held", status="doing")
    assert of(read(open_host(None)), "orphan_locks") == 2
    core.sweep_parked_jobs(connection)
    assert of(read(open_host(None)), "orphan_locks") == 0


def test_a_transaction_that_keeps_vacuum_from_its_work_is_seen(
    connection: sa.Connection, engine: sa.Engine, open_host: Callable[[str | None], Host]
) -> None:
    before = of(read(open_host(None)), "xmin_age")
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as other, other.begin():
        other.exec_driver_sql("SELECT 1 FROM procrastinate_jobs")
        for _ in range(50):
            insert(connection, queue_name="q", task_name="t")
        assert of(read(open_host(None)), "xmin_age") >= max(before, 50)


def test_the_size_of_the_tables_and_the_revision_are_told(host: Host, connection: sa.Connection) -> None:
    samples = read(host)
    size = connection.exec_driver_sql("SELECT pg_total_relation_size('procrastinate_jobs')").scalar_one()
    assert of(samples, "table_bytes", table="procrastinate_jobs") == size
    tables = {dict(labels)["table"] for name, labels in samples if name == "procrastinate_table_bytes"}
    assert tables == set(core.tables.metadata.tables)
    assert of(samples, "schema_info", revision=revisions.head_revision()) == 1


def test_figures_stop_at_their_limits(connection: sa.Connection) -> None:
    jobs = "SELECT 'q', 't', 'doing' FROM generate_series(1, 10001)"
    connection.execute(sa.text(f"INSERT INTO procrastinate_jobs (queue_name, task_name, status) {jobs}"))
    assert inspection.load_figures(connection).stalled == inspection.Count(number=10_000, is_more=True)


def test_the_settings_on_the_page_name_what_is_there(host: Host) -> None:
    """The page shows settings of Prometheus and of KEDA."""
    blocks = [block for block in blocks_of("docs/metrics-and-traces.md") if block.language == "yaml"]
    prometheus, keda = (yaml.safe_load(block.text) for block in blocks)
    assert prometheus["scrape_configs"][0].keys() == {"job_name", "authorization", "static_configs"}
    (trigger,) = keda["triggers"]
    url = urllib.parse.urlsplit(trigger["metadata"]["url"])
    figures = json.loads(host.get(url.path, url.query).text)
    assert figures[trigger["metadata"]["valueLocation"]] == 0
