"""What Procrastinate 3.10 has in a database, by name: what is replaced, kept for the way back, and dropped at its end.

Names and definitions of indexes, constraints and triggers are facts of its schema. The bodies of its functions stay in
the database, as copies.
"""

from __future__ import annotations

from procrastinate.alembic.versions import p0007_with_3x

TABLES = ("procrastinate_workers", "procrastinate_jobs", "procrastinate_events", "procrastinate_periodic_defers")

COLUMNS = {
    "procrastinate_jobs": (
        *("id", "queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "status", "scheduled_at"),
        *("attempts", "abort_requested", "worker_id"),
    ),
    "procrastinate_workers": ("id", "last_heartbeat"),
}
"""Of the tables that this release gives more columns."""

TRIGGERS = {
    "procrastinate_jobs_notify_queue_job_inserted_v1": (
        "AFTER INSERT ON procrastinate_jobs FOR EACH ROW WHEN (new.status = 'todo') "
        "EXECUTE FUNCTION procrastinate_notify_queue_job_inserted_v1()"
    ),
    "procrastinate_jobs_notify_queue_job_aborted_v1": (
        "AFTER UPDATE OF abort_requested ON procrastinate_jobs FOR EACH ROW "
        "WHEN (old.abort_requested = false AND new.abort_requested = true AND new.status = 'doing') "
        "EXECUTE FUNCTION procrastinate_notify_queue_abort_job_v1()"
    ),
    "procrastinate_trigger_status_events_update_v1": (
        "AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW "
        "EXECUTE FUNCTION procrastinate_trigger_function_status_events_update_v1()"
    ),
    "procrastinate_trigger_status_events_insert_v1": (
        "AFTER INSERT ON procrastinate_jobs FOR EACH ROW WHEN (new.status = 'todo') "
        "EXECUTE FUNCTION procrastinate_trigger_function_status_events_insert_v1()"
    ),
    "procrastinate_trigger_scheduled_events_v1": (
        "AFTER INSERT OR UPDATE ON procrastinate_jobs FOR EACH ROW "
        "WHEN (new.scheduled_at IS NOT NULL AND new.status = 'todo') "
        "EXECUTE FUNCTION procrastinate_trigger_function_scheduled_events_v1()"
    ),
    "procrastinate_trigger_abort_requested_events_v1": (
        "AFTER UPDATE OF abort_requested ON procrastinate_jobs FOR EACH ROW WHEN (new.abort_requested = true) "
        "EXECUTE FUNCTION procrastinate_trigger_abort_requested_events_procedure_v1()"
    ),
    "procrastinate_trigger_delete_jobs_v1": (
        "BEFORE DELETE ON procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION procrastinate_unlink_periodic_defers_v1()"
    ),
}

TRIGGER_FUNCTIONS = tuple(definition.rpartition("FUNCTION ")[2] for definition in TRIGGERS.values())

COPIES = {signature: signature.replace("(", "_of_3x(", 1) for signature in p0007_with_3x.FUNCTIONS}
"""The functions that this release replaces, and the names of the originals that are kept."""

KEY_OF_WORKERS = "procrastinate_jobs_worker_id_fkey"
FOREIGN_KEYS = {
    "procrastinate_events_job_id_fkey": (
        "procrastinate_events",
        "FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id) ON DELETE CASCADE",
    ),
    "procrastinate_periodic_defers_job_id_fkey": (
        "procrastinate_periodic_defers",
        "FOREIGN KEY (job_id) REFERENCES procrastinate_jobs (id)",
    ),
    KEY_OF_WORKERS: (
        "procrastinate_jobs",
        "FOREIGN KEY (worker_id) REFERENCES procrastinate_workers (id) ON DELETE SET NULL",
    ),
}

RENAMED_INDEXES = {
    "procrastinate_events_job_id_fkey_v1": "procrastinate_events_job_id_idx",
    "idx_procrastinate_workers_last_heartbeat": "procrastinate_workers_last_heartbeat_idx",
}
"""The same indexes as this release's, under other names."""

CHECK, CHECK_HERE = "check_not_todo_abort_requested", "procrastinate_jobs_todo_not_aborted"

INDEXES = (
    "procrastinate_jobs_lock_idx_v1",
    "procrastinate_jobs_priority_idx_v1",
    "procrastinate_jobs_id_lock_idx_v1",
    "procrastinate_jobs_queue_name_idx_v1",
    "idx_procrastinate_jobs_worker_not_null",
    "procrastinate_periodic_defers_job_id_fkey_v1",
)
"""What only 3.x reads by. Each write pays for them until ``schema --contract``."""

SIGNS = {
    "03.00.00_01_pre_cancel_notification.sql": (
        "EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'procrastinate_jobs'::regclass "
        "AND attname = 'abort_requested')"
    ),
    "03.00.00_50_post_cancel_notification.sql": (
        "to_regproc('procrastinate_trigger_function_status_events_insert_v1') IS NOT NULL"
    ),
    "03.01.00_01_pre_add_heartbeat.sql": "to_regproc('procrastinate_register_worker_v1') IS NOT NULL",
    "03.01.00_50_post_add_heartbeat.sql": "to_regproc('procrastinate_fetch_job_v1') IS NULL",
    "03.02.00_01_pre_batch_defer_jobs.sql": "to_regproc('procrastinate_defer_jobs_v1') IS NOT NULL",
    "03.02.00_50_post_batch_defer_jobs.sql": "to_regproc('procrastinate_defer_job_v1') IS NULL",
    "03.04.00_01_pre_add_retry_failed_job_procedure.sql": "to_regproc('procrastinate_retry_job_v2') IS NOT NULL",
    "03.04.00_50_post_add_retry_failed_job_procedure.sql": (
        "EXISTS (SELECT FROM pg_proc WHERE oid = to_regproc('procrastinate_trigger_function_status_events_update_v1') "
        "AND prosrc LIKE '%retried%')"
    ),
}
"""3.x keeps no version. For each of its migration files, what tells that it has been applied."""
