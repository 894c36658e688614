"""The tables keep together when they are emptied, restored and copied, and a transaction can go without notifications.

TRUNCATE of the jobs empties what belongs to them. A job that is copied brings its history with it. The functions find
their tables in a schema that is renamed, and in one to which the tables are moved. Functions are replaced, and one
trigger is added. A worker written for p0005 runs on.

Revision ID: procrastinate_0006
Revises: procrastinate_0005
"""

from __future__ import annotations

from procrastinate.alembic.locks import lock_tables
from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0001_jobs_events_workers as first
from procrastinate.alembic.versions import p0002_results_errors as second
from procrastinate.alembic.versions import p0004_called_for as fourth

revision = "procrastinate_0006"
down_revision = "procrastinate_0005"
branch_labels = None
depends_on = None

# pg_dump and pg_restore switch check_function_bodies off, in every session and in every script. A role or a database
# for which it is off is no restore.
IS_SET_BY_SESSION = """
CREATE FUNCTION procrastinate_is_set_by_session(setting_name text) RETURNS boolean
LANGUAGE sql STABLE
AS $function$
    SELECT source IN ('client', 'session') FROM pg_catalog.pg_settings WHERE name = setting_name
$function$
"""

IS_RESTORING = """
CREATE FUNCTION procrastinate_is_restoring() RETURNS boolean
LANGUAGE sql STABLE
AS $function$
    SELECT coalesce(current_setting('procrastinate.restoring', true) = 'on', false) OR CASE
        WHEN current_setting('check_function_bodies') = 'off'
        THEN procrastinate_is_set_by_session('check_function_bodies')
        ELSE false
    END
$function$
"""

# A job whose number was not drawn from the sequence comes from elsewhere, too: COPY by hand sets the sequence at the
# end, if at all. A role that may not read the sequence cannot know. PostgreSQL writes these two functions into the
# expressions that call them, so they cost little.
IS_COPIED = """
CREATE FUNCTION procrastinate_is_copied(job_id bigint) RETURNS boolean
LANGUAGE sql
AS $function$
    SELECT procrastinate_is_restoring() OR job_id > CASE
        WHEN has_sequence_privilege(to_regclass('procrastinate_jobs_id_seq'), 'USAGE, SELECT')
        THEN coalesce(pg_sequence_last_value(to_regclass('procrastinate_jobs_id_seq')), 0)
        ELSE job_id
    END
$function$
"""

# A function keeps the search path of its creation. The schema may have another name by now, or the tables be in
# another schema, so the path begins with the one of the table. It is the former again when the function ends.
_FIND_TABLES = (
    "\nBEGIN\n",
    """
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
""",
)

# The three states of waiting are those of the indexes: a fourth would hide the job from all questions.
JOBS_INSERTED = replaced(
    first.JOBS_INSERTED,
    _FIND_TABLES,
    ("    undated bigint[];\n", "    undated bigint[];\n    stray bigint[];\n"),
    (
        "event.at IS NOT NULL;",
        """event.at IS NOT NULL
        AND NOT (SELECT procrastinate_is_copied(one.id) FROM inserted AS one LIMIT 1);""",
    ),
    (
        """    SELECT array_agg(job.id) INTO undated
    FROM inserted AS job
    WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting');
""",
        """    SELECT
        array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
        array_agg(job.id) FILTER (WHERE job.readiness NOT IN (0, 1, 2))
    INTO undated, stray
    FROM inserted AS job;
    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs SET readiness = 0 WHERE id = ANY (stray);
    END IF;
""",
    ),
)

JOBS_UPDATED = replaced(
    first.JOBS_UPDATED,
    _FIND_TABLES,
    ("    notified bigint;\n", "    notified bigint;\n    is_restoring boolean;\n"),
    (
        "    WITH changed AS MATERIALIZED (",
        "    is_restoring := procrastinate_is_restoring();\n    WITH changed AS MATERIALIZED (",
    ),
    (
        "job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,\n",
        """job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting') AS is_undated,
            job.readiness NOT IN (0, 1, 2) OR
""",
    ),
    (
        "FROM changed WHERE is_moved AND status <> 'aborting'",
        "FROM changed WHERE is_moved AND status <> 'aborting' AND NOT is_restoring",
    ),
    (
        "FROM changed WHERE status = 'todo' AND (is_moved OR is_rescheduled) AND scheduled_at IS NOT NULL",
        """FROM changed
        WHERE status = 'todo' AND (is_moved OR is_rescheduled) AND scheduled_at IS NOT NULL AND NOT is_restoring""",
    ),
    (
        "FROM changed WHERE is_abort_requested\n    ),",
        "FROM changed WHERE is_abort_requested AND NOT is_restoring\n    ),",
    ),
)

JOBS_DELETED = replaced(first.JOBS_DELETED, _FIND_TABLES)
DETAILS_DELETED = replaced(second.DETAILS_DELETED, _FIND_TABLES)

# Called from the triggers, with their search path.
UNPARK_NEXT = replaced(first.UNPARK_NEXT, ("LANGUAGE plpgsql SET search_path FROM CURRENT\n", "LANGUAGE plpgsql\n"))

_NOTIFY = (
    "\nBEGIN\n",
    """
BEGIN
    IF current_setting('procrastinate.notify', true) = 'off' THEN
        RETURN;
    END IF;
""",
)
NOTIFY_WAITING = replaced(fourth.NOTIFY_WAITING, _NOTIFY)
NOTIFY_ABORT = replaced(first.NOTIFY_ABORT, _NOTIFY)

# A table that the same statement empties is empty by now, and must not be truncated twice. Its size is asked:
# a transaction with an older snapshot does not see the rows of others, and TRUNCATE takes their jobs all the same.
JOBS_TRUNCATED = replaced(
    """
CREATE FUNCTION procrastinate_jobs_truncated() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['events', 'results', 'errors', 'periodic_defers'] LOOP
        IF pg_relation_size(format('procrastinate_%s', part)::regclass) > 0 THEN
            EXECUTE format('TRUNCATE procrastinate_%s', part);
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$
""",
    _FIND_TABLES,
)

TRUNCATE_TRIGGER = """
CREATE TRIGGER procrastinate_jobs_truncated AFTER TRUNCATE ON procrastinate_jobs
FOR EACH STATEMENT EXECUTE FUNCTION procrastinate_jobs_truncated()
"""


_CREATED = (
    IS_SET_BY_SESSION,
    IS_RESTORING,
    IS_COPIED,
    JOBS_INSERTED,
    JOBS_UPDATED,
    JOBS_DELETED,
    DETAILS_DELETED,
    UNPARK_NEXT,
    NOTIFY_WAITING,
    NOTIFY_ABORT,
    JOBS_TRUNCATED,
    TRUNCATE_TRIGGER,
)
_FORMER = (
    first.JOBS_INSERTED,
    first.JOBS_UPDATED,
    first.JOBS_DELETED,
    second.DETAILS_DELETED,
    first.UNPARK_NEXT,
    fourth.NOTIFY_WAITING,
    first.NOTIFY_ABORT,
)


def upgrade() -> None:
    execute_as_written(lock_tables())
    for statement in _CREATED:
        execute_as_written(statement)


def downgrade() -> None:
    execute_as_written(lock_tables())
    execute_as_written("DROP TRIGGER procrastinate_jobs_truncated ON procrastinate_jobs")
    execute_as_written("DROP FUNCTION procrastinate_jobs_truncated()")
    for statement in _FORMER:
        execute_as_written(replaced(statement))
    execute_as_written("DROP FUNCTION procrastinate_is_copied(bigint)")
    execute_as_written("DROP FUNCTION procrastinate_is_restoring()")
    execute_as_written("DROP FUNCTION procrastinate_is_set_by_session(text)")
