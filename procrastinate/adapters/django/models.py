# mypy: disable-error-code="var-annotated"
"""The queue's tables as Django models, for queries and the admin.

They are unmanaged: the emitted migrations create the tables. The relations have no database constraint, because
triggers maintain them. Deleting a job deletes its events, and a deleted worker's jobs remain.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.utils import timezone

from procrastinate import jobs
from procrastinate._quoting import LONGEST_VALUE, quoted
from procrastinate.adapters.django.fields import AnyJSONField, DueTimeField, TimeField, WordField, WorkerIdField
from procrastinate.adapters.django.models_of_relations import (
    ProcrastinateDependency,
    ProcrastinateLimit,
    ProcrastinateOperation,
    ProcrastinatePausedQueue,
    ProcrastinateStart,
    ProcrastinateUniqueKey,
    ProcrastinateWorkflow,
)
from procrastinate.adapters.django.read_only import ReadOnlyModelBase
from procrastinate.core.enums import EventType, Readiness, Status

__all__ = [
    "ProcrastinateDependency",
    "ProcrastinateError",
    "ProcrastinateEvent",
    "ProcrastinateJob",
    "ProcrastinateLimit",
    "ProcrastinateOperation",
    "ProcrastinatePausedQueue",
    "ProcrastinatePeriodicDefer",
    "ProcrastinateResult",
    "ProcrastinateStart",
    "ProcrastinateUniqueKey",
    "ProcrastinateWorker",
    "ProcrastinateWorkflow",
]


def _choices(words: type[Status] | type[EventType]) -> list[tuple[str, str]]:
    return [(word.value, word.value) for word in words]


class _NoneIfGone(ForwardManyToOneDescriptor):  # type: ignore[type-arg]
    def get_object(self, instance: models.Model) -> Any:
        try:
            return super().get_object(instance)
        except self.field.remote_field.model.DoesNotExist:
            return None


class _ReferenceForeignKey(models.ForeignKey[Any, Any]):
    """A reference that is ``None`` if its target no longer exists."""

    forward_related_accessor_class = _NoneIfGone

    def __init__(self, to: Any, **kwargs: Any) -> None:
        super().__init__(to, **{"on_delete": models.DO_NOTHING, "db_constraint": False, **kwargs})

    def deconstruct(self) -> Any:
        """Return an ordinary foreign key for migrations."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.ForeignKey", args, kwargs


class ProcrastinateWorker(ReadOnlyModelBase):
    """A worker that is running or was recently lost.

    The model omits the column ``called_for``: Django's array field requires ``django.contrib.postgres`` in the project.
    """

    id = WorkerIdField(primary_key=True)
    last_heartbeat = TimeField()

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_workers"
        verbose_name = "worker"
        get_latest_by = "last_heartbeat"

    def __str__(self) -> str:
        return f"worker {self.pk}"


class ProcrastinateJob(ReadOnlyModelBase):
    """A job that waits, runs or has ended."""

    STATUSES = _choices(Status)

    id = models.BigAutoField(primary_key=True)
    queue_name = models.CharField("queue", max_length=128)
    task_name = models.CharField("task", max_length=128)
    priority = models.IntegerField(default=0)
    lock = models.TextField(null=True, blank=True)
    queueing_lock = models.TextField(null=True, blank=True)
    args = AnyJSONField("arguments", default=dict)
    status = WordField(max_length=32, choices=STATUSES, default=Status.TODO.value)
    scheduled_at = DueTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)
    abort_requested = models.BooleanField(default=False)
    worker = _ReferenceForeignKey(ProcrastinateWorker, null=True, blank=True)
    worker_id: int | None
    readiness = models.SmallIntegerField(default=Readiness.UNDECIDED.value)
    rescues = models.IntegerField(default=0)
    finished_at = TimeField(null=True, blank=True)
    limit_name = models.TextField(null=True, blank=True)
    limit_key = models.TextField(null=True, blank=True)
    limit_weight = models.IntegerField(null=True, blank=True)
    workflow_id = models.BigIntegerField(null=True, blank=True)
    step = models.TextField(null=True, blank=True)
    meta = AnyJSONField(null=True, blank=True)
    trace_context = AnyJSONField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_jobs"
        verbose_name = "job"
        get_latest_by = "id"

    def __str__(self) -> str:
        return f"{quoted(self.task_name, LONGEST_VALUE)}[{self.pk}]"

    @property
    def procrastinate_job(self) -> jobs.Job:
        """The job as a :class:`~procrastinate.jobs.Job`."""
        return jobs.Job(
            id=self.id,
            status=self.status,
            queue=self.queue_name,
            priority=self.priority,
            lock=self.lock,
            queueing_lock=self.queueing_lock,
            task_name=self.task_name,
            task_kwargs=self.args,
            scheduled_at=self._aware_scheduled_at(),
            attempts=self.attempts,
            abort_requested=self.abort_requested,
            worker_id=self.worker_id,
            workflow_id=self.workflow_id,
            step=self.step,
            meta=self.meta if isinstance(self.meta, dict) else {},
        )

    def _aware_scheduled_at(self) -> Any:
        # With USE_TZ = False, Django returns naive datetimes in the project's time zone.
        if self.scheduled_at is None or timezone.is_aware(self.scheduled_at):
            return self.scheduled_at
        return timezone.make_aware(self.scheduled_at, timezone.get_default_timezone())


class ProcrastinateEvent(ReadOnlyModelBase):
    """An event in the history of a job."""

    TYPES = _choices(EventType)

    id = models.BigAutoField(primary_key=True)
    job = _ReferenceForeignKey(ProcrastinateJob)
    type = WordField(max_length=32, choices=TYPES)
    at = TimeField(null=True, blank=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_events"
        verbose_name = "event"
        get_latest_by = "at"

    def __str__(self) -> str:
        return f"{self.type} at {self.at}"


class ProcrastinatePeriodicDefer(ReadOnlyModelBase):
    """A tick of a periodic task and the job deferred for it."""

    id = models.BigAutoField(primary_key=True)
    task_name = models.CharField("task", max_length=128)
    defer_timestamp = models.BigIntegerField(null=True, blank=True)
    job = _ReferenceForeignKey(ProcrastinateJob, null=True, blank=True)
    periodic_id = models.CharField(max_length=128, blank=True, default="")

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_periodic_defers"
        verbose_name = "periodic defer"

    def __str__(self) -> str:
        return f"{quoted(self.task_name, LONGEST_VALUE)} at {self.defer_timestamp}"


class _ReturnValue(AnyJSONField):
    """A return value. ``None`` is stored as JSON null, because the column is NOT NULL."""

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return connection.ops.adapt_json_value(value, self.encoder)


class ProcrastinateResult(ReadOnlyModelBase):
    """The return value of a job whose task stores it."""

    job_id = models.BigIntegerField(primary_key=True)
    value = _ReturnValue(null=True)

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_results"
        verbose_name = "result"

    def __str__(self) -> str:
        return f"result of job {self.pk}"


class ProcrastinateError(ReadOnlyModelBase):
    """The exception that ended an attempt of a job."""

    id = models.BigAutoField(primary_key=True)
    job = _ReferenceForeignKey(ProcrastinateJob, related_name="errors")
    attempt = models.IntegerField()
    worker = _ReferenceForeignKey(ProcrastinateWorker, null=True, blank=True, related_name="+")
    at = TimeField()
    exception_class = models.TextField()
    message = models.TextField()
    traceback = models.TextField()

    class Meta(ReadOnlyModelBase.Meta):
        db_table = "procrastinate_errors"
        verbose_name = "error"
        get_latest_by = "at"

    def __str__(self) -> str:
        return f"{quoted(self.exception_class, LONGEST_VALUE)} in attempt {self.attempt}"
