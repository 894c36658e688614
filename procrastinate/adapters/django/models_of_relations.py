# mypy: disable-error-code="var-annotated"
"""Models of the rows that decide when jobs run, apart from the jobs: workflows, unique keys, limits, pauses.

``dumpdata`` takes only what has a model. Without these rows, a step of a restored workflow would be cancelled, a unique
job would run twice, and a paused queue would go on. ``tests/django/test_models.py`` names the tables that need none.
"""

from __future__ import annotations

from django.db import models

from procrastinate._quoting import quoted
from procrastinate.adapters.django.fields import AnyJSONField, DueTimeField, TimeField
from procrastinate.adapters.django.read_only import ReadOnlyModelBase


class ProcrastinateWorkflow(ReadOnlyModelBase):
    """A workflow, or a group in one."""

    id = models.BigAutoField(primary_key=True)
    root_id = models.BigIntegerField()
    parent_id = models.BigIntegerField(null=True, blank=True)
    kind = models.TextField()
    name = models.TextField()
    if_failed = models.TextField()
    created_at = TimeField()
    finished_at = TimeField(null=True, blank=True)
    cancelled_at = TimeField(null=True, blank=True)
    succeeded = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    cancelled = models.BigIntegerField(default=0)
    aborted = models.BigIntegerField(default=0)
    lost = models.BigIntegerField(default=0)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_workflows"
        verbose_name = "workflow"
        get_latest_by = "id"

    def __str__(self) -> str:
        return f"{quoted(self.kind)} {quoted(self.name)} [{self.pk}]"


class ProcrastinateDependency(ReadOnlyModelBase):
    """What a step of a workflow waits for: a job or a group."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.BigIntegerField()
    parent_id = models.BigIntegerField(null=True, blank=True)
    parent_workflow_id = models.BigIntegerField(null=True, blank=True)
    rule = models.SmallIntegerField()
    argument = AnyJSONField(null=True, blank=True)
    delay = models.FloatField(null=True, blank=True)
    is_closed = models.BooleanField(default=False)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_dependencies"
        verbose_name = "dependency"
        verbose_name_plural = "dependencies"

    def __str__(self) -> str:
        return f"dependency of job {self.job_id}"


class ProcrastinateUniqueKey(ReadOnlyModelBase):
    """A unique key, and the job that has taken it."""

    key = models.TextField(primary_key=True)
    job_id = models.BigIntegerField()
    until = models.TextField()
    taken_at = TimeField()
    expires_at = DueTimeField(null=True, blank=True)
    start_by = TimeField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_uniques"
        verbose_name = "unique key"

    def __str__(self) -> str:
        return f"unique key {quoted(self.key)}"


class ProcrastinateLimit(ReadOnlyModelBase):
    """The numbers of a limit: those of the code, and those that an operator has set."""

    name = models.TextField(primary_key=True)
    concurrency = models.IntegerField(null=True, blank=True)
    total = models.IntegerField(null=True, blank=True)
    set_concurrency = models.IntegerField(null=True, blank=True)
    set_total = models.IntegerField(null=True, blank=True)
    defined_at = TimeField()
    rates = models.TextField(null=True, blank=True)
    total_rates = models.TextField(null=True, blank=True)
    set_rates = models.TextField(null=True, blank=True)
    set_total_rates = models.TextField(null=True, blank=True)
    fair = models.BooleanField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_limits"
        verbose_name = "limit"

    def __str__(self) -> str:
        return f"limit {quoted(self.name)}"


class ProcrastinateStart(ReadOnlyModelBase):
    """A start of a job whose limit has a rate."""

    id = models.BigAutoField(primary_key=True)
    limit_name = models.TextField()
    limit_key = models.TextField()
    at = TimeField()
    weight = models.IntegerField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_starts"
        verbose_name = "start"

    def __str__(self) -> str:
        return f"start for limit {quoted(self.limit_name)} at {self.at}"


class ProcrastinatePausedQueue(ReadOnlyModelBase):
    """A queue that is paused."""

    queue_name = models.CharField("queue", max_length=128, primary_key=True)
    paused_at = TimeField()
    paused_until = TimeField(null=True, blank=True)
    paused_by = models.TextField(null=True, blank=True)
    reason = models.TextField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_paused_queues"
        verbose_name = "paused queue"

    def __str__(self) -> str:
        return f"paused queue {quoted(self.queue_name)}"


class ProcrastinateOperation(ReadOnlyModelBase):
    """An operation on many jobs that workers carry out."""

    id = models.BigAutoField(primary_key=True)
    kind = models.TextField()
    filter = AnyJSONField(default=dict)
    requested_by = models.TextField(null=True, blank=True)
    reason = models.TextField(null=True, blank=True)
    state = models.TextField(default="pending")
    expected = models.BigIntegerField(null=True, blank=True)
    done = models.BigIntegerField(default=0)
    skipped = models.BigIntegerField(default=0)
    reached_id = models.BigIntegerField(null=True, blank=True)
    last_id = models.BigIntegerField(null=True, blank=True)
    error = models.TextField(null=True, blank=True)
    created_at = TimeField()
    started_at = TimeField(null=True, blank=True)
    finished_at = TimeField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_operations"
        verbose_name = "operation"

    def __str__(self) -> str:
        return f"operation {quoted(self.kind)} [{self.pk}]"
