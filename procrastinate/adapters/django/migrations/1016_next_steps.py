# Generated from the Alembic revision procrastinate_0016: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
from django.db import migrations
from procrastinate.adapters.django.migration_operations import RunPostgreSQL

FORWARD = [
r"""CREATE FUNCTION procrastinate_go_on(ended bigint[]) RETURNS bigint[]
LANGUAGE plpgsql
SET enable_nestloop = on SET enable_hashjoin = off SET enable_mergejoin = off
AS $function$
DECLARE
    parents bigint[];
    steps bigint[];
    settled bigint[];
BEGIN
    SELECT array_agg(one.id), array_agg(successor.job_id) INTO parents, steps
    FROM unnest(ended) AS one (id)
    CROSS JOIN LATERAL (
        SELECT min(edge.job_id) AS job_id
        FROM (
            SELECT dependency.job_id, dependency.delay
            FROM procrastinate_dependencies AS dependency
            WHERE dependency.parent_id = one.id
            LIMIT 2
        ) AS edge
        HAVING count(*) = 1 AND count(edge.delay) = 0
    ) AS successor;
    IF steps IS NULL THEN
        RETURN '{}';
    END IF;

    WITH gone AS (
        UPDATE procrastinate_jobs AS job
        SET readiness = 0, scheduled_at = CASE WHEN job.limit_name IS NOT NULL THEN now() END
        FROM unnest(parents, steps) AS link (parent_id, id)
        CROSS JOIN LATERAL (
            SELECT waiting.id
            FROM procrastinate_jobs AS waiting
            WHERE waiting.id = link.id AND waiting.status = 'todo' AND waiting.readiness = 5
                AND EXISTS (
                    SELECT FROM procrastinate_jobs AS parent
                    WHERE parent.id = link.parent_id
                        AND parent.status = 'succeeded'
                        AND parent.workflow_id = waiting.workflow_id
                )
                AND (
                    SELECT count(*) = 1 AND bool_and(edge.rule IN (0, 1))
                    FROM (
                        SELECT dependency.rule
                        FROM procrastinate_dependencies AS dependency
                        WHERE dependency.job_id = waiting.id
                        LIMIT 2
                    ) AS edge
                )
            LIMIT 1
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS free
        WHERE job.id = free.id
        RETURNING link.parent_id
    )
    SELECT array_agg(gone.parent_id) INTO settled FROM gone;
    RETURN coalesce(settled, '{}');
EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
END
$function$;""",
r"""CREATE OR REPLACE FUNCTION procrastinate_arrive(queue_name text, ended bigint[], groups bigint[], lost bigint[]) RETURNS void
LANGUAGE plpgsql
AS $function$
DECLARE
    settled bigint[];
BEGIN
    IF lost = '{}'
        AND current_setting('transaction_isolation') = 'read committed'
        AND current_setting('procrastinate.hand_over', true) IS DISTINCT FROM 'off'
    THEN
        settled := procrastinate_go_on(ended);
        IF settled <> '{}' THEN
            SELECT array_agg(one.id) INTO ended FROM unnest(ended) AS one (id) WHERE one.id <> ALL (settled);
        END IF;
        IF ended IS NULL THEN
            RETURN;
        END IF;
    END IF;
    FOR start IN 1..cardinality(ended) BY 500 LOOP
        INSERT INTO procrastinate_arrivals (ended, groups, lost)
        VALUES (
            ended[start:start + 499],
            CASE WHEN start = 1 THEN groups ELSE '{}' END,
            CASE WHEN start = 1 THEN lost ELSE '{}' END
        );
    END LOOP;
    PERFORM procrastinate_notify_waiting(queue_name, ended[cardinality(ended)], true, 1);
END
$function$;""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0016' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0015';""",
]

BACKWARD = [
r"""CREATE OR REPLACE FUNCTION procrastinate_arrive(queue_name text, ended bigint[], groups bigint[], lost bigint[]) RETURNS void
LANGUAGE plpgsql
AS $function$
BEGIN
    FOR start IN 1..cardinality(ended) BY 500 LOOP
        INSERT INTO procrastinate_arrivals (ended, groups, lost)
        VALUES (
            ended[start:start + 499],
            CASE WHEN start = 1 THEN groups ELSE '{}' END,
            CASE WHEN start = 1 THEN lost ELSE '{}' END
        );
    END LOOP;
    PERFORM procrastinate_notify_waiting(queue_name, ended[cardinality(ended)], true, 1);
END
$function$;""",
r"""DROP FUNCTION procrastinate_go_on(bigint[]);""",
r"""UPDATE procrastinate_alembic_version SET version_num='procrastinate_0015' WHERE procrastinate_alembic_version.version_num = 'procrastinate_0016';""",
]


class Migration(migrations.Migration):
    initial = False
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = [('procrastinate', '1015_rates')]
    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision='procrastinate_0016'),

    ]
