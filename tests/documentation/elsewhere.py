"""Blocks that no reader runs, because another test does."""

from __future__ import annotations

import dataclasses

from tests.documentation.blocks import Block


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """A block, by its page and its first line; the test that proves it, and why it is there."""

    page: str
    first_line: str
    test: str
    reason: str

    def is_about(self, block: Block) -> bool:
        """Whether that is the block."""
        return block.page == self.page and block.text.startswith(self.first_line + "\n")


def _about(page: str, test: str, reason: str, *first_lines: str) -> list[Elsewhere]:
    return [Elsewhere(page=page, first_line=line, test=test, reason=reason) for line in first_lines]


PROVED_ELSEWHERE = [
    Elsewhere(
        page="docs/database.md",
        first_line="-- Defers jobs. It cannot read their arguments, change jobs, or write jobs that seem to have run.",
        test="tests/security/test_roles.py",
        reason="A server's databases share its roles: that test gives them names of its own, and tries them",
    ),
    *_about(
        "docs/database.md",
        "tests/worker/test_drivers_behind_pgbouncer.py",
        "It needs a PgBouncer, which that test has",
        "import procrastinate",
        "import sqlalchemy as sa",
        "# mysite/settings.py",
    ),
    *_about(
        "docs/operations.md",
        "tests/schema/test_logical_replication.py",
        "It needs two servers, which that test has",
        "CREATE PUBLICATION upgrade FOR ALL TABLES;",
        "CREATE SUBSCRIPTION upgrade CONNECTION 'host=old dbname=shop user=postgres' PUBLICATION upgrade;",
    ),
    *_about(
        "docs/from-celery.md",
        "tests/examples/test_celery_app.py",
        "The project of the example moves there, with brokers of its own",
        '$ pip install "path/to/checkout[celery]"    # add binary, as in [celery,binary], if libpq is not installed',
        "$ procrastinate --app shop.celery.procrastinate_app schema --apply",
        "# shop/tasks.py",
        "# shop/celery.py",
        "$ export PROCRASTINATE_CELERY_BROKER=redis://localhost/0",
        "$ procrastinate celery-schedule shop.celery_before.app > shop/schedule.py",
    ),
    *_about(
        "docs/from-celery.md",
        "tests/from_celery/test_steps.py",
        "Its module needs the app of the Celery project, which that test makes",
        "# shop/sums.py",
    ),
    *_about(
        "docs/metrics-and-traces.md",
        "tests/metrics/test_metrics.py",
        "It needs Prometheus or KEDA; that test reads the settings and tries what they name",
        "scrape_configs:",
        "triggers:",
    ),
    *_about(
        "docs/howto/progress.md",
        "tests/documentation/contexts/progress/context.py",
        "It is for a browser; the page's context runs it on Node.js, against the view of the page",
        "async function showProgress(element) {",
    ),
    *_about(
        "docs/unique-jobs.md",
        "tests/django/test_task_backend.py",
        "It needs a Django project, which that test has",
        'result = add.using(unique=procrastinate.Unique(by="sum", on_conflict="skip")).enqueue(1, 2)',
    ),
    *_about(
        "docs/watching.md",
        "tests/dashboard/test_hosts.py",
        "It needs a Django project, which that test has",
        "# mysite/urls.py",
    ),
    *_about(
        "docs/from-others.md",
        "tests/django/test_import_django_tasks.py",
        "It needs the tables of another package",
        "$ python manage.py procrastinate import_django_tasks --dry-run",
    ),
    *_about(
        "docs/from-others.md",
        "tests/documentation/test_from_others_page.py",
        "It needs the tables of other packages, which that test has",
        "WITH moved AS (",
    ),
]


def is_proved_elsewhere(block: Block) -> bool:
    """Whether the block is listed."""
    return any(listed.is_about(block) for listed in PROVED_ELSEWHERE)
