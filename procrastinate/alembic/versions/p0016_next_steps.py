"""The statement that ends a step lets the only step go that waits for it.

The step of a chain becomes ready in the transaction in which its predecessor ends. No worker has to look at an arrival
first. Every other end of a step is an arrival, as before.

A worker written for p0015 fetches such a step as it fetches any other.

Revision ID: procrastinate_0016
Revises: procrastinate_0015
"""

from __future__ import annotations

from procrastinate.alembic.replace_functions import execute_as_written, replaced
from procrastinate.alembic.versions import p0010_workflows as former

revision = "procrastinate_0016"
down_revision = "procrastinate_0015"
branch_labels = None
depends_on = None

# Called from the triggers, with their search path. A step goes on if it waits for one job that has ended, and if no
# other step waits for that job. Both are in one group, so the group has an open member until the next step ends, and
# that end is looked at. The job needs no arrival then. The function returns such jobs. What it does not see, or finds
# locked, is left to the arrivals.
#
# A dependency that another session adds to the job is an arrival of that session. A step that waits gets no further
# dependencies.
#
# A trigger of the user may refuse to change the next step, and a role may lack rights. The end of the job must not fail
# for that.
GO_ON = """
CREATE FUNCTION procrastinate_go_on(ended bigint[]) RETURNS bigint[]
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
$function$
"""

# Only a READ COMMITTED transaction sees the latest state of other jobs. In any other the change of the next step could
# fail. A session that sets procrastinate.hand_over to 'off' changes no other job. A job that was deleted before its end
# lets no step go.
ARRIVE = replaced(
    former.ARRIVE,
    (
        "BEGIN\n",
        """DECLARE
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
""",
    ),
)


def upgrade() -> None:
    execute_as_written(GO_ON)
    execute_as_written(ARRIVE)


def downgrade() -> None:
    execute_as_written(replaced(former.ARRIVE))
    execute_as_written("DROP FUNCTION procrastinate_go_on(bigint[])")
