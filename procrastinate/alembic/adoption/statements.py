"""The statements of the adoption. Each is atomic by itself, and may be repeated.

A ``DO`` block is one statement: it needs no transaction of its caller's, so it is the same on every driver, behind
every pooler, and in a script for psql.
"""

from __future__ import annotations

from procrastinate.alembic import settings
from procrastinate.alembic.adoption import names_of_3x
from procrastinate.alembic.adoption.state import IS_ORPHAN
from procrastinate.alembic.settings import FETCHES_LOCK_KEY, HOLD_LATE_FETCHES, MIGRATION_LOCK_KEY, VERSION_TABLE
from procrastinate.alembic.versions import (
    p0001_jobs_events_workers as jobs_events_workers,
)
from procrastinate.alembic.versions import (
    p0002_results_errors as results_errors,
)
from procrastinate.alembic.versions import (
    p0006_kept_together as kept_together,
)
from procrastinate.alembic.versions import (
    p0007_with_3x as with_3x,
)

LOCK_TIMEOUT = "500ms"
"""How long a step waits for a lock. While it waits, others wait behind it. It is shorter than PostgreSQL's
``deadlock_timeout`` (1 s), so that in a deadlock this session gives up, and no worker of 3.x does."""


_LEAVE_IF_DONE = f"""
IF to_regclass('{VERSION_TABLE}') IS NOT NULL THEN
    DROP INDEX IF EXISTS {with_3x.QUEUEING_LOCK};
    RETURN;
END IF;"""
"""Of two processes that adopt at once, one may be done before the other, and later revisions may be applied already.
All that the slower one can have left is the index that the faster one has under another name."""


def block(*statements: str, declare: str = "", leaves_if_done: bool = True) -> str:
    """Begin an atomic block, which waits briefly for locks. One process at a time migrates in it.

    A lock on any table lets the session hear what the process before it has created. An advisory lock does not.
    """
    body = ";\n".join(statement.strip().rstrip(";") for statement in statements)
    return f"""DO $do$
{declare}BEGIN
PERFORM set_config('lock_timeout', '{LOCK_TIMEOUT}', true);
PERFORM pg_advisory_xact_lock({MIGRATION_LOCK_KEY});
PERFORM FROM pg_catalog.pg_tablespace LIMIT 0;{_LEAVE_IF_DONE if leaves_if_done else ""}
{body};
END
$do$"""


def drop_unfinished(name: str) -> str:
    """Return the statement that drops an index whose building was broken off.

    A session that builds an index concurrently holds a lock on its table until the end. With the same lock, an index
    that is not valid is one that no session builds. Without it, the statement might drop what another process has just
    built in the place of it.
    """
    return block(
        f"""
DECLARE
    place text := (SELECT indrelid::regclass FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid);
BEGIN
    IF place IS NOT NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', place);
        IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid) THEN
            DROP INDEX {name};
        END IF;
    END IF;
END""",
        leaves_if_done=False,
    )


def _keep(signature: str, copy: str) -> str:
    name, copy_name = signature.partition("(")[0], copy.partition("(")[0]
    return f"""
IF to_regproc('{copy_name}') IS NULL THEN
    EXECUTE replace(pg_get_functiondef('{signature}'::regprocedure), '{name}(', '{copy_name}(');
END IF"""


KEEP_ORIGINALS = block(*(_keep(signature, copy) for signature, copy in names_of_3x.COPIES.items()))

# A fetch that waits for the new columns would answer with more than its query expects, and its worker would end. So it
# finds nothing while they are added, and when it began before. Once the switch is done, this is no longer called.
_GUARD = f"""
CREATE OR REPLACE FUNCTION procrastinate_fetch_job_v2(target_queue_names varchar[], p_worker_id bigint)
RETURNS procrastinate_jobs
LANGUAGE plpgsql
AS $function$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared({FETCHES_LOCK_KEY}) THEN
        RETURN NULL;
    END IF;
    IF now() < {settings.FETCHES_NOTHING_BEFORE} THEN
        RETURN NULL;
    END IF;
    RETURN procrastinate_fetch_job_v2_of_3x(target_queue_names, p_worker_id);
END
$function$"""

GUARD_FETCHES = block(f"IF to_regproc('procrastinate_jobs_inserted') IS NULL THEN\n{_GUARD};\nEND IF")

ARE_FETCHES_GUARDED = "{} AND {}".format(
    " AND ".join(f"to_regproc('{copy.partition('(')[0]}') IS NOT NULL" for copy in names_of_3x.COPIES.values()),
    "(to_regproc('procrastinate_jobs_inserted') IS NOT NULL OR EXISTS (SELECT FROM pg_proc "
    "WHERE oid = to_regproc('procrastinate_fetch_job_v2') AND prosrc LIKE '%procrastinate_fetch_job_v2_of_3x(%'))",
)

# A fetch may have entered the function of 3.x before the guard was there, and not have come to the table yet. No lock
# tells of it, so all transactions that are at work are waited for. Those that are idle are in no function.
AWAIT_FORMER_FETCHES = """DO $do$
DECLARE
    former text[] := ARRAY(
        SELECT lock.virtualtransaction
        FROM pg_locks AS lock JOIN pg_stat_activity AS activity ON activity.pid = lock.pid
        WHERE lock.locktype = 'virtualxid' AND lock.granted AND lock.pid <> pg_backend_pid()
            AND activity.datname = current_database() AND activity.state IS DISTINCT FROM 'idle in transaction'
            AND coalesce(activity.backend_type, 'client backend') = 'client backend'
    );
BEGIN
    FOR look IN 1..250 LOOP
        EXIT WHEN NOT EXISTS (
            SELECT FROM pg_locks
            WHERE locktype = 'virtualxid' AND granted AND virtualtransaction = ANY (former)
        );
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$do$"""

HAS_COLUMNS = (
    "EXISTS (SELECT FROM pg_attribute "
    "WHERE attrelid = 'procrastinate_jobs'::regclass AND attname = 'finished_at' AND attnum > 0)"
)

# All rows that are there read as ended now, and none is rewritten. The settling corrects those that have not ended.
ADD_COLUMNS = block(
    f"""
IF NOT {HAS_COLUMNS} THEN
    PERFORM pg_advisory_xact_lock({FETCHES_LOCK_KEY});
    ALTER TABLE procrastinate_jobs
        ADD COLUMN readiness smallint NOT NULL DEFAULT 0,
        ADD COLUMN rescues integer NOT NULL DEFAULT 0,
        ADD COLUMN finished_at timestamptz DEFAULT now();
    ALTER TABLE procrastinate_jobs ALTER COLUMN finished_at DROP DEFAULT;
    {HOLD_LATE_FETCHES};
END IF"""
)

EXTEND_WORKERS = block(
    """
ALTER TABLE procrastinate_workers
    ADD COLUMN IF NOT EXISTS called_for text[] DEFAULT '{}'::text[],
    ADD COLUMN IF NOT EXISTS heartbeat_interval double precision,
    ADD COLUMN IF NOT EXISTS stalled_timeout double precision,
    ALTER COLUMN id SET GENERATED BY DEFAULT"""
)

ARE_WORKERS_EXTENDED = (
    "4 = (SELECT count(*) FROM pg_attribute WHERE attrelid = 'procrastinate_workers'::regclass AND attnum > 0 "
    "AND (attname IN ('called_for', 'heartbeat_interval', 'stalled_timeout') "
    "OR (attname = 'id' AND attidentity = 'd')))"
)

# What may be done with the history may be done with what else is kept of a job.
_COPY_GRANTS = """
FOR granted IN
    SELECT grantee.rolname AS role, privilege.privilege_type AS privilege, privilege.is_grantable
    FROM pg_class AS class
    CROSS JOIN aclexplode(class.relacl) AS privilege
    LEFT JOIN pg_roles AS grantee ON grantee.oid = privilege.grantee
    WHERE class.oid = '{source}'::regclass AND privilege.grantee <> class.relowner
        AND privilege.privilege_type IN ({privileges})
LOOP
    EXECUTE format(
        'GRANT %s ON {targets} TO %s%s',
        granted.privilege, coalesce(quote_ident(granted.role), 'PUBLIC'),
        CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' END
    );
END LOOP"""

_HAND_OVER = """
EXECUTE (
    SELECT format('ALTER TABLE %s OWNER TO %I', '{table}', pg_get_userbyid(relowner))
    FROM pg_class WHERE oid = 'procrastinate_jobs'::regclass
)"""

_RECORD = "DECLARE\n    granted record;\n"

ADD_TABLES = block(
    """
CREATE TABLE IF NOT EXISTS procrastinate_results (job_id bigint PRIMARY KEY, value jsonb NOT NULL)""",
    """
CREATE TABLE IF NOT EXISTS procrastinate_errors (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL,
    attempt integer NOT NULL,
    worker_id bigint,
    at timestamptz NOT NULL DEFAULT now(),
    exception_class text NOT NULL,
    message text NOT NULL,
    traceback text NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS procrastinate_errors_job_id_idx ON procrastinate_errors (job_id)",
    _HAND_OVER.format(table="procrastinate_results"),
    _HAND_OVER.format(table="procrastinate_errors"),
    _COPY_GRANTS.format(
        source="procrastinate_events",
        targets="procrastinate_results, procrastinate_errors",
        privileges="'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'",
    ),
    declare=_RECORD,
)

_JOBS = "procrastinate_jobs"
INDEXES = {
    "procrastinate_jobs_ready_queue_idx": (
        f"INDEX {{}} ON {_JOBS} (queue_name, priority DESC, id) WHERE {jobs_events_workers.READY}"
    ),
    "procrastinate_jobs_ready_idx": (
        f"INDEX {{}} ON {_JOBS} (priority DESC, id) WHERE {jobs_events_workers.READY_IN_ANY_QUEUE}"
    ),
    "procrastinate_jobs_upcoming_idx": (
        f"INDEX {{}} ON {_JOBS} (coalesce(scheduled_at, '-infinity'::timestamptz), priority DESC, id) "
        f"WHERE {jobs_events_workers.UPCOMING}"
    ),
    "procrastinate_jobs_parked_idx": (
        f"INDEX {{}} ON {_JOBS} (lock, priority DESC, id) WHERE {jobs_events_workers.PARKED}"
    ),
    "procrastinate_jobs_lock_holder_idx": (
        f"UNIQUE INDEX {{}} ON {_JOBS} (lock) WHERE {jobs_events_workers.HOLDS_LOCK}"
    ),
    with_3x.QUEUEING_LOCK: (
        f"UNIQUE INDEX {{}} ON {_JOBS} (queueing_lock) WHERE {jobs_events_workers.HOLDS_QUEUEING_LOCK}"
    ),
    "procrastinate_jobs_doing_idx": f"INDEX {{}} ON {_JOBS} (worker_id) WHERE status = 'doing'",
    "procrastinate_jobs_finished_idx": (f"INDEX {{}} ON {_JOBS} (status, finished_at) WHERE finished_at IS NOT NULL"),
    "procrastinate_periodic_defers_job_id_idx": (
        "INDEX {} ON procrastinate_periodic_defers (job_id) WHERE job_id IS NOT NULL"
    ),
}
"""The indexes that are built, by name. The slot is for ``CONCURRENTLY`` and the name."""

# What 3.x keeps by three foreign keys, this release keeps by triggers. Whatever they are called, they go.
_DROP_FOREIGN_KEYS = """
FOR key IN
    SELECT conrelid::regclass AS source, conname AS name FROM pg_constraint
    WHERE contype = 'f' AND conrelid = ANY ({tables}) AND confrelid = ANY ({tables})
LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', key.source, key.name);
END LOOP""".format(tables="ARRAY[{}]".format(", ".join(f"'{table}'::regclass" for table in names_of_3x.TABLES)))

_LOCK_TABLES = f"LOCK TABLE {', '.join(names_of_3x.TABLES)} IN ACCESS EXCLUSIVE MODE"

_OUR_FUNCTIONS = (
    jobs_events_workers.QUEUE_CHANNEL,
    kept_together.IS_SET_BY_SESSION,
    kept_together.IS_RESTORING,
    kept_together.IS_COPIED,
    kept_together.UNPARK_NEXT,
    kept_together.NOTIFY_WAITING,
    kept_together.NOTIFY_ABORT,
    kept_together.JOBS_INSERTED,
    kept_together.JOBS_UPDATED,
    kept_together.JOBS_DELETED,
    kept_together.DETAILS_DELETED,
    kept_together.JOBS_TRUNCATED,
    *with_3x.FUNCTIONS.values(),
)

_OUR_TRIGGERS = (*jobs_events_workers.TRIGGERS, results_errors.TRIGGER, kept_together.TRUNCATE_TRIGGER)


def _replacing(statement: str) -> str:
    for kind in ("FUNCTION", "TRIGGER"):
        statement = statement.replace(f"CREATE {kind}", f"CREATE OR REPLACE {kind}", 1)
    return statement


def _if_there(kind: str, name: str, statement: str) -> str:
    return f"IF to_{kind}('{name}') IS NOT NULL THEN\n    {statement};\nEND IF"


_RENAME = [
    *(f"ALTER INDEX IF EXISTS {theirs} RENAME TO {ours}" for theirs, ours in names_of_3x.RENAMED_INDEXES.items()),
    f"""
IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = '{_JOBS}'::regclass AND conname = '{names_of_3x.CHECK}') THEN
    ALTER TABLE {_JOBS} RENAME CONSTRAINT {names_of_3x.CHECK} TO {names_of_3x.CHECK_HERE};
END IF""",
    # Writers of 3.x find out by the name that a queueing lock is taken.
    _if_there(
        "regclass",
        with_3x.QUEUEING_LOCK,
        f"DROP INDEX IF EXISTS {with_3x.QUEUEING_LOCK_OF_3X};\n"
        f"    ALTER INDEX {with_3x.QUEUEING_LOCK} RENAME TO {with_3x.QUEUEING_LOCK_OF_3X}",
    ),
]

SWITCH = block(
    _LOCK_TABLES,
    *(f"DROP TRIGGER IF EXISTS {name} ON {_JOBS}" for name in names_of_3x.TRIGGERS),
    *map(_replacing, _OUR_FUNCTIONS),
    *map(_replacing, _OUR_TRIGGERS),
    _DROP_FOREIGN_KEYS,
    *_RENAME,
    # Before any worker of this release can take them back.
    f"UPDATE procrastinate_jobs AS job SET worker_id = 0 WHERE {IS_ORPHAN}",
    declare="DECLARE\n    key record;\n",
)

IS_SWITCHED = (
    "(EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'procrastinate_jobs'::regclass "
    "AND tgfoid = to_regproc('procrastinate_jobs_inserted')) AND NOT EXISTS (SELECT FROM pg_trigger "
    "WHERE tgrelid = 'procrastinate_jobs'::regclass AND tgname = 'procrastinate_trigger_status_events_insert_v1'))"
)

SETTLE_STEP = 5000
SETTLE_WAITING = f"""
WITH wrong AS MATERIALIZED (
    SELECT id FROM procrastinate_jobs
    WHERE status IN ('todo', 'doing') AND finished_at IS NOT NULL
    LIMIT {SETTLE_STEP} FOR UPDATE SKIP LOCKED
)
UPDATE procrastinate_jobs AS job SET finished_at = NULL FROM wrong WHERE job.id = wrong.id"""
"""To be repeated until it changes nothing."""

ARE_WAITING_SETTLED = (
    "NOT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing') AND finished_at IS NOT NULL)"
)

SETTLE_ENDED = """
UPDATE procrastinate_jobs SET finished_at = now()
WHERE finished_at IS NULL AND status NOT IN ('todo', 'doing', 'aborting')"""

ANALYZE = "ANALYZE procrastinate_jobs"

STAMP = block(
    f"""
CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (
    version_num varchar(32) NOT NULL CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY
)""",
    f"INSERT INTO {VERSION_TABLE} SELECT '{{revision}}' WHERE NOT EXISTS (SELECT FROM {VERSION_TABLE})",
    _HAND_OVER.format(table=VERSION_TABLE),
    _COPY_GRANTS.format(source=_JOBS, targets=VERSION_TABLE, privileges="'SELECT'"),
    declare=_RECORD,
)
"""Has a slot for the revision."""

_OTHER_TRIGGERS = """
FOR ours IN
    SELECT tgname AS name FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE tgrelid = 'procrastinate_jobs'::regclass AND NOT tgisinternal
        AND left(tgname, 14) = 'procrastinate_' AND left(proname, 14) = 'procrastinate_'
LOOP
    EXECUTE format('DROP TRIGGER %I ON procrastinate_jobs', ours.name);
END LOOP"""


def _restore(signature: str, copy: str) -> str:
    name, copy_name = signature.partition("(")[0], copy.partition("(")[0]
    return (
        f"EXECUTE replace(pg_get_functiondef('{copy}'::regprocedure), '{copy_name}(', '{name}(');\nDROP FUNCTION {copy}"
    )


REVERT = block(
    _LOCK_TABLES,
    _OTHER_TRIGGERS,
    *(f"CREATE TRIGGER {name} {definition}" for name, definition in names_of_3x.TRIGGERS.items()),
    # 3.x looks at the workers of running jobs only. To correct all rows would take long, and locks the tables.
    "UPDATE procrastinate_jobs AS job SET worker_id = NULL WHERE status = 'doing' "
    "AND NOT EXISTS (SELECT FROM procrastinate_workers AS worker WHERE worker.id = job.worker_id)",
    *(
        f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name} {definition} NOT VALID"
        for name, (table, definition) in names_of_3x.FOREIGN_KEYS.items()
    ),
    "COMMENT ON FUNCTION procrastinate_fetch_job_v2(varchar[], bigint) IS NULL",
    *(_restore(signature, copy) for signature, copy in names_of_3x.COPIES.items()),
    *(f"ALTER INDEX IF EXISTS {ours} RENAME TO {theirs}" for theirs, ours in names_of_3x.RENAMED_INDEXES.items()),
    f"ALTER TABLE {_JOBS} RENAME CONSTRAINT {names_of_3x.CHECK_HERE} TO {names_of_3x.CHECK}",
    f"DROP TABLE {VERSION_TABLE}",
    declare="DECLARE\n    ours record;\n",
    leaves_if_done=False,
)

VALIDATE = tuple(
    f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
    for name, (table, _) in names_of_3x.FOREIGN_KEYS.items()
    if name != names_of_3x.KEY_OF_WORKERS
)
"""The key to the workers stays unvalidated: jobs that have ended may name workers that are gone."""

DROP_FUNCTIONS_OF_3X = block(
    *(f"DROP FUNCTION IF EXISTS {copy}" for copy in names_of_3x.COPIES.values()),
    *(f"DROP FUNCTION IF EXISTS {function}" for function in names_of_3x.TRIGGER_FUNCTIONS),
    leaves_if_done=False,
)
