"""SQL under the names that 3.x has: programs and migrations of users read it. Deprecated.

``schema.sql`` is what :meth:`~procrastinate.schema.SchemaManager.get_schema` returns. The files in ``migrations`` do
nothing: a history of migrations that runs the one and then the others ends with the whole schema. :data:`queries` call
the functions of the schema.
"""

from __future__ import annotations

queries = {
    "defer_jobs": ("SELECT unnest(procrastinate_defer_jobs_v1(%(jobs)s::procrastinate_job_to_defer_v1[])) AS id"),
    "defer_periodic_job": (
        "SELECT procrastinate_defer_periodic_job_v2(%(queue)s, %(lock)s, %(queueing_lock)s, %(task_name)s, "
        "%(priority)s, %(periodic_id)s, %(defer_timestamp)s, %(args)s) AS id"
    ),
    "fetch_job": (
        "SELECT id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts, "
        "worker_id FROM procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker_id)s)"
    ),
    "finish_job": "SELECT procrastinate_finish_job_v1(%(job_id)s, %(status)s, %(delete_job)s)",
    "cancel_job": "SELECT procrastinate_cancel_job_v1(%(job_id)s, %(abort)s, %(delete_job)s) AS id",
    "retry_job": (
        "SELECT procrastinate_retry_job_v2(%(job_id)s, %(retry_at)s, %(new_priority)s, %(new_queue_name)s, "
        "%(new_lock)s)"
    ),
    "get_job_status": "SELECT status FROM procrastinate_jobs WHERE id = %(job_id)s",
    "check_connection": "SELECT to_regclass('procrastinate_jobs') AS check",
    "count_jobs_status": "SELECT count(*) AS count, status FROM procrastinate_jobs GROUP BY status",
    "register_worker": "SELECT * FROM procrastinate_register_worker_v1()",
    "unregister_worker": "SELECT procrastinate_unregister_worker_v1(%(worker_id)s)",
    "update_heartbeat": "SELECT procrastinate_update_heartbeat_v1(%(worker_id)s)",
    "prune_stalled_workers": "SELECT * FROM procrastinate_prune_stalled_workers_v1(%(seconds_since_heartbeat)s)",
}
"""Those of 3.x's queries that call its functions, or look at one thing. Parameters are psycopg's."""
