# Generated from the Alembic revision procrastinate_0024: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from django.db import models
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    number bigint;
    last_id bigint;
    first_queue text;
    last_queue text;
    is_upcoming boolean;
    all_wait boolean;
    has_schedule boolean;
    has_line boolean;
    is_new boolean;
    is_odd boolean;
    undated bigint[];
    stray bigint[];
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    SELECT
        count(*),
        max(job.id),
        min(job.queue_name),
        max(job.queue_name),
        bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
        bool_and(job.status = 'todo' AND job.readiness <> 5),
        bool_or(job.scheduled_at IS NOT NULL),
        bool_or(job.limit_name IS NOT NULL),
        bool_or(
            job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')
            OR job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
                OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')
        )
    INTO
        number, last_id, first_queue, last_queue, is_upcoming, all_wait, has_schedule, has_line, is_odd
    FROM inserted AS job;
    IF number = 0 THEN
        RETURN NULL;
    END IF;

    is_new := NOT procrastinate_is_copied(last_id);
    IF is_new AND all_wait AND NOT has_schedule THEN
        INSERT INTO procrastinate_events (job_id, type, at) SELECT job.id, 'deferred', now() FROM inserted AS job;
    ELSIF is_new THEN
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT job.id, event.type, event.at
        FROM inserted AS job
        CROSS JOIN LATERAL (
            VALUES
                ('deferred'::procrastinate_job_event_type, now()),
                ('scheduled'::procrastinate_job_event_type, job.scheduled_at)
        ) AS event (type, at)
        WHERE job.status = 'todo' AND event.at IS NOT NULL
            AND (job.readiness NOT IN (3, 5) OR event.type = 'deferred');
    END IF;

    IF all_wait AND first_queue = last_queue THEN
        PERFORM procrastinate_notify_waiting(first_queue, last_id, is_upcoming, number);
    ELSE
        PERFORM procrastinate_notify_waiting(
            job.queue_name::text,
            max(job.id),
            bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
            count(*)
        )
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness <> 5
        GROUP BY job.queue_name;
    END IF;

    IF is_odd THEN
        SELECT
            array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
            array_agg(job.id) FILTER (
                WHERE job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
                OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')
            )
        INTO undated, stray
        FROM inserted AS job;
    END IF;
    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs
        SET readiness = 0,
            scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END
        WHERE id = ANY (stray);
    END IF;
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    -- The openings of a restored job are restored, too. Without them, the sweep of the lines finds the job.
    IF has_line AND is_new AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    released text[];
    held text[];
    left_names text[];
    left_keys text[];
    left_weights integer[];
    one_id bigint;
    one_queue text;
    may_hold boolean;
    has_member boolean;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    DELETE FROM procrastinate_events AS event USING deleted AS job WHERE event.job_id = job.id;

    UPDATE procrastinate_periodic_defers AS tick SET job_id = NULL
    FROM deleted AS job
    WHERE tick.job_id = job.id;

    SELECT
        bool_or((was.lock IS NOT NULL OR was.limit_name IS NOT NULL) AND was.status IN ('todo', 'doing')),
        bool_or(was.workflow_id IS NOT NULL)
    INTO may_hold, has_member
    FROM deleted AS was;
    IF may_hold THEN
        SELECT
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
            array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL AND own.is_holder),
            array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
            array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
            array_agg(coalesce(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
            max(was.id),
            max(was.queue_name)
        INTO released, held, left_names, left_keys, left_weights, one_id, one_queue
        FROM deleted AS was
        CROSS JOIN LATERAL (
            SELECT was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS is_holder
        ) AS own
        WHERE was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2);
        IF released IS NOT NULL OR left_names IS NOT NULL THEN
            PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys, left_weights);
        END IF;
    END IF;
    IF has_member THEN
        DELETE FROM procrastinate_dependencies AS dependency USING deleted AS job WHERE dependency.job_id = job.id;
        PERFORM procrastinate_arrive(
            job.queue_name::text, array_agg(job.id), array_agg(DISTINCT job.workflow_id), array_agg(job.workflow_id)
        )
        FROM deleted AS job
        WHERE job.workflow_id IS NOT NULL AND job.status IN ('todo', 'doing', 'aborting')
        GROUP BY job.queue_name;
    END IF;
    RETURN NULL;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0024' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0023';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_inserted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT
AS $function$
DECLARE
    number bigint;
    last_id bigint;
    first_queue text;
    last_queue text;
    is_upcoming boolean;
    all_wait boolean;
    has_schedule boolean;
    has_line boolean;
    is_new boolean;
    undated bigint[];
    stray bigint[];
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    SELECT
        count(*),
        max(job.id),
        min(job.queue_name),
        max(job.queue_name),
        bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
        bool_and(job.status = 'todo' AND job.readiness <> 5),
        bool_or(job.scheduled_at IS NOT NULL),
        bool_or(job.limit_name IS NOT NULL),
        array_agg(job.id) FILTER (WHERE job.finished_at IS NULL AND job.status NOT IN ('todo', 'doing', 'aborting')),
        array_agg(job.id) FILTER (
            WHERE job.readiness NOT IN (5, 0, 1, 2, CASE WHEN job.limit_name IS NULL THEN 0 ELSE 3 END)
                OR (job.limit_name IS NOT NULL AND job.scheduled_at IS NULL AND job.status = 'todo')
        )
    INTO
        number, last_id, first_queue, last_queue, is_upcoming, all_wait, has_schedule, has_line, undated, stray
    FROM inserted AS job;
    IF number = 0 THEN
        RETURN NULL;
    END IF;

    is_new := NOT procrastinate_is_copied(last_id);
    IF is_new AND all_wait AND NOT has_schedule THEN
        INSERT INTO procrastinate_events (job_id, type, at) SELECT job.id, 'deferred', now() FROM inserted AS job;
    ELSIF is_new THEN
        INSERT INTO procrastinate_events (job_id, type, at)
        SELECT job.id, event.type, event.at
        FROM inserted AS job
        CROSS JOIN LATERAL (
            VALUES
                ('deferred'::procrastinate_job_event_type, now()),
                ('scheduled'::procrastinate_job_event_type, job.scheduled_at)
        ) AS event (type, at)
        WHERE job.status = 'todo' AND event.at IS NOT NULL
            AND (job.readiness NOT IN (3, 5) OR event.type = 'deferred');
    END IF;

    IF all_wait AND first_queue = last_queue THEN
        PERFORM procrastinate_notify_waiting(first_queue, last_id, is_upcoming, number);
    ELSE
        PERFORM procrastinate_notify_waiting(
            job.queue_name::text,
            max(job.id),
            bool_or(job.scheduled_at IS NOT NULL OR job.lock IS NOT NULL),
            count(*)
        )
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness <> 5
        GROUP BY job.queue_name;
    END IF;

    IF stray IS NOT NULL THEN
        UPDATE procrastinate_jobs
        SET readiness = 0,
            scheduled_at = CASE WHEN limit_name IS NULL THEN scheduled_at ELSE coalesce(scheduled_at, now()) END
        WHERE id = ANY (stray);
    END IF;
    IF undated IS NOT NULL THEN
        UPDATE procrastinate_jobs SET finished_at = now() WHERE id = ANY (undated);
    END IF;
    -- The openings of a restored job are restored, too. Without them, the sweep of the lines finds the job.
    IF has_line AND is_new AND has_table_privilege('procrastinate_openings', 'INSERT') THEN
        INSERT INTO procrastinate_openings (limit_name, limit_key)
        SELECT DISTINCT job.limit_name, job.limit_key
        FROM inserted AS job
        WHERE job.status = 'todo' AND job.readiness = 3 AND job.limit_name IS NOT NULL;
    END IF;
    RETURN NULL;
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_jobs_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    released text[];
    held text[];
    left_names text[];
    left_keys text[];
    left_weights integer[];
    one_id bigint;
    one_queue text;
BEGIN
    IF current_schema() IS DISTINCT FROM TG_TABLE_SCHEMA THEN
        PERFORM set_config('search_path', concat_ws(
            ', ', quote_ident(TG_TABLE_SCHEMA), nullif(current_setting('search_path'), '')
        ), true);
    END IF;
    DELETE FROM procrastinate_events AS event USING deleted AS job WHERE event.job_id = job.id;

    UPDATE procrastinate_periodic_defers AS tick SET job_id = NULL
    FROM deleted AS job
    WHERE tick.job_id = job.id;

    SELECT
        array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL),
        array_agg(DISTINCT was.lock) FILTER (WHERE was.lock IS NOT NULL AND own.is_holder),
        array_agg(was.limit_name) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        array_agg(was.limit_key) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        array_agg(coalesce(was.limit_weight, 1)) FILTER (WHERE was.limit_name IS NOT NULL AND own.is_holder),
        max(was.id),
        max(was.queue_name)
    INTO released, held, left_names, left_keys, left_weights, one_id, one_queue
    FROM deleted AS was
    CROSS JOIN LATERAL (
        SELECT was.status = 'doing' OR (was.status = 'todo' AND was.readiness = 1) AS is_holder
    ) AS own
    WHERE was.status = 'doing' OR (was.status = 'todo' AND was.readiness <> 2);
    IF released IS NOT NULL OR left_names IS NOT NULL THEN
        PERFORM procrastinate_leave(one_queue, one_id, released, held, left_names, left_keys, left_weights);
    END IF;
    IF EXISTS (SELECT FROM deleted WHERE workflow_id IS NOT NULL) THEN
        DELETE FROM procrastinate_dependencies AS dependency USING deleted AS job WHERE dependency.job_id = job.id;
        PERFORM procrastinate_arrive(
            job.queue_name::text, array_agg(job.id), array_agg(DISTINCT job.workflow_id), array_agg(job.workflow_id)
        )
        FROM deleted AS job
        WHERE job.workflow_id IS NOT NULL AND job.status IN ('todo', 'doing', 'aborting')
        GROUP BY job.queue_name;
    END IF;
    RETURN NULL;
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0023' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0024';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1023_channels_in_line')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0024'),
        migrations.CreateModel(
            name='ProcrastinateWorkflow',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('root_id', models.BigIntegerField()),
                ('parent_id', models.BigIntegerField(blank=True, null=True)),
                ('kind', models.TextField()),
                ('name', models.TextField()),
                ('if_failed', models.TextField()),
                ('created_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('cancelled_at', models.DateTimeField(blank=True, null=True)),
                ('succeeded', models.BigIntegerField(default=0)),
                ('failed', models.BigIntegerField(default=0)),
                ('cancelled', models.BigIntegerField(default=0)),
                ('aborted', models.BigIntegerField(default=0)),
                ('lost', models.BigIntegerField(default=0)),
            ],
            options={
                'verbose_name': 'workflow',
                'db_table': 'procrastinate_workflows',
                'get_latest_by': 'id',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProcrastinateDependency',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('job_id', models.BigIntegerField()),
                ('parent_id', models.BigIntegerField(blank=True, null=True)),
                ('parent_workflow_id', models.BigIntegerField(blank=True, null=True)),
                ('rule', models.SmallIntegerField()),
                ('argument', models.JSONField(blank=True, null=True)),
                ('delay', models.FloatField(blank=True, null=True)),
                ('is_closed', models.BooleanField(default=False)),
            ],
            options={
                'verbose_name': 'dependency',
                'verbose_name_plural': 'dependencies',
                'db_table': 'procrastinate_dependencies',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProcrastinateUniqueKey',
            fields=[
                ('key', models.TextField(primary_key=True, serialize=False)),
                ('job_id', models.BigIntegerField()),
                ('until', models.TextField()),
                ('taken_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(blank=True, null=True)),
                ('start_by', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'unique key',
                'db_table': 'procrastinate_uniques',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProcrastinateLimit',
            fields=[
                ('name', models.TextField(primary_key=True, serialize=False)),
                ('concurrency', models.IntegerField(blank=True, null=True)),
                ('total', models.IntegerField(blank=True, null=True)),
                ('set_concurrency', models.IntegerField(blank=True, null=True)),
                ('set_total', models.IntegerField(blank=True, null=True)),
                ('defined_at', models.DateTimeField()),
                ('rates', models.TextField(blank=True, null=True)),
                ('total_rates', models.TextField(blank=True, null=True)),
                ('set_rates', models.TextField(blank=True, null=True)),
                ('set_total_rates', models.TextField(blank=True, null=True)),
                ('fair', models.BooleanField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'limit',
                'db_table': 'procrastinate_limits',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProcrastinateStart',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('limit_name', models.TextField()),
                ('limit_key', models.TextField()),
                ('at', models.DateTimeField()),
                ('weight', models.IntegerField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'start',
                'db_table': 'procrastinate_starts',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProcrastinatePausedQueue',
            fields=[
                ('queue_name', models.CharField(max_length=128, primary_key=True, serialize=False, verbose_name='queue')),
                ('paused_at', models.DateTimeField()),
                ('paused_until', models.DateTimeField(blank=True, null=True)),
                ('paused_by', models.TextField(blank=True, null=True)),
                ('reason', models.TextField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'paused queue',
                'db_table': 'procrastinate_paused_queues',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.CreateModel(
            name='ProcrastinateOperation',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('kind', models.TextField()),
                ('filter', models.JSONField(default=dict)),
                ('requested_by', models.TextField(blank=True, null=True)),
                ('reason', models.TextField(blank=True, null=True)),
                ('state', models.TextField(default='pending')),
                ('expected', models.BigIntegerField(blank=True, null=True)),
                ('done', models.BigIntegerField(default=0)),
                ('skipped', models.BigIntegerField(default=0)),
                ('reached_id', models.BigIntegerField(blank=True, null=True)),
                ('last_id', models.BigIntegerField(blank=True, null=True)),
                ('error', models.TextField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'operation',
                'db_table': 'procrastinate_operations',
                'managed': False,
                'base_manager_name': 'objects',
            },
        ),
        migrations.AddField(
            model_name='procrastinatejob',
            name='workflow_id',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='procrastinatejob',
            name='step',
            field=models.TextField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='procrastinatejob',
            name='meta',
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='procrastinatejob',
            name='trace_context',
            field=models.JSONField(blank=True, null=True),
        ),
    ]
