"""What could be passed in 3.x can be passed here: names, order, defaults.

More may be accepted (another option, a parameter that has become optional), nothing less.
"""

from __future__ import annotations

import inspect
import pkgutil
from typing import Any

import pytest

_WORKER = (
    "queues=None, name='worker', concurrency=1, wait=True, fetch_job_polling_interval=5.0, "
    "abort_job_polling_interval=5.0, shutdown_graceful_timeout=None, listen_notify=True, delete_jobs=None, "
    "additional_context=None, install_signal_handlers=True, update_heartbeat_interval=10.0, "
    "stalled_worker_timeout=30.0, task_middleware=None, worker_middleware=None"
)
_TASK = "name=None, aliases=None, retry=False, pass_context=False, {}, priority=0, lock=None, queueing_lock=None, "
_TASK += "task_middleware=None"
_LISTED = "self, queue=None, task=None, status=None, lock=None"
_JOBS = "self, id=None, queue=None, task=None, status=None, lock=None, queueing_lock=None, worker_id=None"
_RETRY = "retry_at, priority=None, queue=None, lock=None"

SIGNATURES = {
    "app.App": "*, connector, import_paths=None, worker_defaults=None, periodic_defaults=None",
    "app.App.from_path": "dotted_path",
    "app.App.with_connector": "self, connector",
    "app.App.replace_connector": "self, connector",
    "app.App.configure_task": "self, name, *, allow_unknown=True, **kwargs",
    "app.App.perform_import_paths": "self",
    "app.App.open": "self, pool_or_engine=None",
    "app.App.close": "self",
    "app.App.open_async": "self, pool=None",
    "app.App.close_async": "self",
    "app.App.run_worker": "self, **kwargs",
    "app.App.run_worker_async": "self, **kwargs",
    "app.App.check_connection": "self",
    "app.App.check_connection_async": "self",
    "blueprints.Blueprint": "",
    "blueprints.Blueprint.task": "self, _func=None, *, " + _TASK.format("queue='default'"),
    "blueprints.Blueprint.periodic": "self, *, cron, periodic_id='', **kwargs",
    "blueprints.Blueprint.add_task_alias": "self, task, alias",
    "blueprints.Blueprint.add_tasks_from": "self, blueprint, *, namespace",
    "tasks.Task": "func, *, blueprint, " + _TASK.format("queue"),
    "tasks.Task.defer": "self, *_, **task_kwargs",
    "tasks.Task.defer_async": "self, *_, **task_kwargs",
    "tasks.Task.batch_defer": "self, *task_kwargs",
    "tasks.Task.batch_defer_async": "self, *task_kwargs",
    "tasks.Task.configure": "self, **options",
    "tasks.Task.get_retry_exception": "self, exception, job",
    "tasks.configure_task": "*, name, job_manager, **options",
    "jobs.JobDeferrer": "job_manager, job, connection=None",
    "jobs.JobDeferrer.make_new_job": "self, **task_kwargs",
    "jobs.JobDeferrer.defer": "self, **task_kwargs",
    "jobs.JobDeferrer.defer_async": "self, **task_kwargs",
    "jobs.JobDeferrer.batch_defer": "self, *task_kwargs",
    "jobs.JobDeferrer.batch_defer_async": "self, *task_kwargs",
    "jobs.Job": "*, id=None, status=None, queue, priority=0, lock, queueing_lock, task_name, task_kwargs=..., "
    "scheduled_at=None, attempts=0, abort_requested=False, worker_id=None",
    "jobs.Job.from_row": "row",
    "jobs.Job.asdict": "self",
    "jobs.Job.log_context": "self",
    "jobs.Job.evolve": "self, **kwargs",
    "manager.JobManager": "connector",
    "manager.JobManager.defer_job": "self, job, connection=None",
    "manager.JobManager.defer_job_async": "self, job, connection=None",
    "manager.JobManager.batch_defer_jobs": "self, jobs, connection=None",
    "manager.JobManager.batch_defer_jobs_async": "self, jobs, connection=None",
    "manager.JobManager.defer_periodic_job": "self, job, periodic_id, defer_timestamp",
    "manager.JobManager.fetch_job": "self, queues, worker_id",
    "manager.JobManager.finish_job": "self, job, status, delete_job",
    "manager.JobManager.finish_job_by_id_async": "self, job_id, status, delete_job",
    "manager.JobManager.cancel_job_by_id": "self, job_id, abort=False, delete_job=False, connection=None",
    "manager.JobManager.cancel_job_by_id_async": "self, job_id, abort=False, delete_job=False, connection=None",
    "manager.JobManager.get_job_status": "self, job_id, connection=None",
    "manager.JobManager.get_job_status_async": "self, job_id, connection=None",
    "manager.JobManager.retry_job": "self, job, retry_at=None, priority=None, queue=None, lock=None",
    "manager.JobManager.retry_job_by_id": f"self, job_id, {_RETRY}",
    "manager.JobManager.retry_job_by_id_async": f"self, job_id, {_RETRY}",
    "manager.JobManager.get_stalled_jobs": "self, nb_seconds=None, queue=None, task_name=None, "
    "seconds_since_heartbeat=30",
    "manager.JobManager.delete_old_jobs": "self, nb_hours, queue=None, include_failed=False, include_cancelled=False, "
    "include_aborted=False",
    "manager.JobManager.list_jobs": _JOBS,
    "manager.JobManager.list_jobs_async": _JOBS,
    "manager.JobManager.list_queues": _LISTED,
    "manager.JobManager.list_queues_async": _LISTED,
    "manager.JobManager.list_tasks": _LISTED,
    "manager.JobManager.list_tasks_async": _LISTED,
    "manager.JobManager.list_locks": _LISTED,
    "manager.JobManager.list_locks_async": _LISTED,
    "manager.JobManager.list_jobs_to_abort_async": "self, queue=None",
    "manager.JobManager.listen_for_jobs": "self, *, on_notification, queues=None",
    "manager.JobManager.check_connection": "self",
    "manager.JobManager.check_connection_async": "self",
    "manager.JobManager.register_worker": "self",
    "manager.JobManager.unregister_worker": "self, worker_id",
    "manager.JobManager.update_heartbeat": "self, worker_id",
    "manager.JobManager.prune_stalled_workers": "self, seconds_since_heartbeat",
    "worker.Worker": f"app, {_WORKER}",
    "worker.Worker.run": "self",
    "worker.Worker.stop": "self",
    "worker.Worker.find_task": "self, task_name",
    "retry.RetryStrategy": "*, max_attempts=None, wait=0, linear_wait=0, exponential_wait=0, retry_exceptions=None",
    "retry.RetryDecision": "*, retry_at=None, retry_in=None, priority=None, queue=None, lock=None",
    "retry.BaseRetryStrategy.get_retry_decision": "self, *, exception, job",
    "retry.BaseRetryStrategy.get_schedule_in": "self, *, exception, attempts",
    "retry.BaseRetryStrategy.get_retry_exception": "self, exception, job",
    "periodic.PeriodicDeferrer": "registry, max_delay=600",
    "periodic.PeriodicDeferrer.get_previous_tasks": "self, at",
    "periodic.PeriodicDeferrer.defer_jobs": "self, jobs_to_defer",
    "periodic.PeriodicRegistry": "",
    "periodic.PeriodicRegistry.register_task": "self, task, cron, periodic_id, configure_kwargs",
    "job_context.JobContext": "*, app, worker_name=None, worker_queues=None, job, start_timestamp, "
    "additional_context=..., abort_reason",
    "job_context.JobContext.should_abort": "self",
    "job_context.JobContext.evolve": "self, **update",
    "job_context.JobResult": "*, start_timestamp, end_timestamp=None, result=None",
    "middleware.is_async_middleware": "middleware",
    "schema.SchemaManager": "connector",
    "schema.SchemaManager.get_schema": "",
    "schema.SchemaManager.get_migrations_path": "",
    "schema.SchemaManager.apply_schema": "self",
    "schema.SchemaManager.apply_schema_async": "self",
    "exceptions.UniqueViolation": "*args, constraint_name, queueing_lock",
    "exceptions.JobRetry": "retry_decision",
    "connector.BaseConnector.get_sync_connector": "self",
    "connector.BaseConnector.open": "self, pool=None",
    "connector.BaseConnector.open_async": "self, pool=None",
    "connector.BaseConnector.execute_query": "self, query, **arguments",
    "connector.BaseConnector.execute_query_async": "self, query, **arguments",
    "connector.BaseConnector.execute_query_one": "self, query, **arguments",
    "connector.BaseConnector.execute_query_one_async": "self, query, **arguments",
    "connector.BaseConnector.execute_query_all": "self, query, **arguments",
    "connector.BaseConnector.execute_query_all_async": "self, query, **arguments",
    "connector.BaseConnector.execute_query_one_with_connection": "self, connection, query, **arguments",
    "connector.BaseConnector.execute_query_all_with_connection": "self, connection, query, **arguments",
    "connector.BaseConnector.execute_query_one_async_with_connection": "self, connection, query, **arguments",
    "connector.BaseConnector.execute_query_all_async_with_connection": "self, connection, query, **arguments",
    "connector.BaseConnector.listen_notify": "self, on_notification, channels",
    "psycopg_connector.PsycopgConnector": "*, json_dumps=None, json_loads=None, pool_factory=None, **kwargs",
    "sync_psycopg_connector.SyncPsycopgConnector": "*, json_dumps=None, json_loads=None, **kwargs",
    "contrib.aiopg.AiopgConnector": "*, json_dumps=None, json_loads=None, **kwargs",
    "contrib.psycopg2.Psycopg2Connector": "*, json_dumps=None, json_loads=None, **kwargs",
    "contrib.sqlalchemy.SQLAlchemyPsycopg2Connector": "*, dsn='postgresql+psycopg2://', json_dumps=None, "
    "json_loads=None, **kwargs",
}

_OPTIONAL = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def _named(path: str) -> Any:
    return pkgutil.resolve_name(f"procrastinate.{path}")


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    """By name; ``**anything`` as ``**``, whatever it is called."""
    marks: dict[Any, str] = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
    return {marks.get(one.kind, one.name): one for one in inspect.signature(function).parameters.values()}


def _as_written(text: str) -> dict[str, inspect.Parameter]:
    return _parameters(eval(f"lambda {text}: None"))


def _without_self(parameters: dict[str, inspect.Parameter]) -> dict[str, inspect.Parameter]:
    return {name: one for name, one in parameters.items() if name != "self"}


@pytest.mark.parametrize("path", SIGNATURES)
def test_what_could_be_passed_can_be_passed(path: str) -> None:
    wanted, found = _as_written(SIGNATURES[path]), _parameters(_named(path))
    assert list(found)[: len(_positional(wanted))] == _positional(wanted)
    for name, parameter in _without_self(wanted).items():
        assert name in found, f"{name} is missing"
        assert found[name].kind is parameter.kind
        if parameter.default not in (inspect.Parameter.empty, ...):
            assert found[name].default == parameter.default
    for name in found.keys() - wanted.keys():
        required = found[name].default is inspect.Parameter.empty and found[name].kind not in _OPTIONAL
        assert not required, f"{name} must be given, and was not there in 3.x"


def _positional(parameters: dict[str, inspect.Parameter]) -> list[str]:
    return [name for name, one in parameters.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


@pytest.mark.parametrize("path", [path for path in SIGNATURES if path.endswith("_async")])
def test_what_was_awaited_is_awaited(path: str) -> None:
    # open_async is awaited, or entered with "async with".
    assert inspect.iscoroutinefunction(_named(path)) or path == "app.App.open_async"
