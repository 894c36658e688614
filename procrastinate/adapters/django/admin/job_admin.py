"""Admin pages: the list of jobs and the page of one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from procrastinate.adapters.django.admin import display
from procrastinate.adapters.django.admin.actions import ACTIONS, FROM_JOB_PAGE, admin_action, is_job_id
from procrastinate.adapters.django.admin.argument_search import read_argument
from procrastinate.adapters.django.admin.change_list import JobChangeList, refused_as_bad_lookups
from procrastinate.adapters.django.admin.dashboard_urls import dashboard_urls, has_dashboard
from procrastinate.adapters.django.admin.excerpts import with_excerpts
from procrastinate.adapters.django.admin.filters import QueueFilter, TaskFilter
from procrastinate.adapters.django.admin.paginator import BoundedPaginator
from procrastinate.adapters.django.admin.reach import ReachFilter, is_autocomplete, within_reach
from procrastinate.adapters.django.models import ProcrastinateJob

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[ProcrastinateJob]
else:
    _ModelAdmin = admin.ModelAdmin

FIELDSETS = (
    (None, ("id", "whole_task_name", "pretty_arguments", "status_badge", "result", "errors", "timeline")),
    ("Waiting", ("queue", "priority", "schedule", "lock_name", "queueing_lock_name")),
    ("Run", ("attempts", "worker_id", "abort_requested", "rescues", "end")),
)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@admin.register(ProcrastinateJob)
class ProcrastinateJobAdmin(_ModelAdmin):
    """Admin of jobs: view, retry, cancel and abort them.

    Viewing requires Django's view permission on jobs, and the actions require the change permission.
    """

    list_display = ("id", "call", "status_badge", "queue", "start", "end", "took")
    list_filter = ("status", QueueFilter, TaskFilter, "scheduled_at", ReachFilter)
    search_fields = ("task_name__contains", "queue_name__contains", "lock__contains", "queueing_lock__contains")
    search_help_text = "Job id, part of the name of the task, queue or a lock, or an argument such as order_id=42"
    actions = tuple(admin_action(action) for action in ACTIONS)
    fieldsets = tuple((name, {"fields": fields}) for name, fields in FIELDSETS)
    readonly_fields = tuple(field for _, fields in FIELDSETS for field in fields)
    # These settings keep the list fast, however long the table is: the order is an index's, and Django counts nothing.
    ordering = ("-id",)
    sortable_by = ("id",)
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50

    class Media:
        css = {"all": ("procrastinate/admin.css",)}  # noqa: RUF012

    @admin.display(description="task and arguments")
    def call(self, job: ProcrastinateJob) -> str:
        """Return the task with its arguments, and the error of a job that failed."""
        return display.call(job)

    @admin.display(description="start", empty_value="-")
    def start(self, job: ProcrastinateJob) -> Any:
        """Return the start of the last run, or what a job that waits waits for."""
        return display.start(job)

    @admin.display(description="took", empty_value="-")
    def took(self, job: ProcrastinateJob) -> str | None:
        """Return how long the last run took."""
        return display.took(job)

    @admin.display(description="task")
    def whole_task_name(self, job: ProcrastinateJob) -> str | None:
        """Return the task's name."""
        return display.one_line(job.task_name)

    @admin.display(description="queue")
    def queue(self, job: ProcrastinateJob) -> str | None:
        """Return the queue of the job."""
        return display.one_line(job.queue_name)

    @admin.display(description="lock", empty_value="-")
    def lock_name(self, job: ProcrastinateJob) -> str | None:
        """Return the job's lock."""
        return display.one_line(job.lock)

    @admin.display(description="queueing lock", empty_value="-")
    def queueing_lock_name(self, job: ProcrastinateJob) -> str | None:
        """Return the job's queueing lock."""
        return display.one_line(job.queueing_lock)

    @admin.display(description="status")
    def status_badge(self, job: ProcrastinateJob) -> str:
        """Return the status as a coloured badge."""
        return display.status_badge(job)

    @admin.display(description="arguments")
    def pretty_arguments(self, job: ProcrastinateJob) -> str:
        """Return the full arguments."""
        return display.pretty_arguments(job)

    @admin.display(description="returned", empty_value="")
    def result(self, job: ProcrastinateJob) -> str | None:
        """Return the return value, if the task stores it."""
        return display.result(job)

    @admin.display(description="errors", empty_value="")
    def errors(self, job: ProcrastinateJob) -> str | None:
        """Return the errors of the job's attempts."""
        return display.errors(job)

    @admin.display(description="history")
    def timeline(self, job: ProcrastinateJob) -> str:
        """Return the job's events."""
        return display.timeline(job)

    @admin.display(description="worker")
    def worker_id(self, job: ProcrastinateJob) -> int | None:
        """Return the id of the worker that runs or ran the job. The worker may be gone."""
        return job.worker_id

    @admin.display(description="scheduled", empty_value="-")
    def schedule(self, job: ProcrastinateJob) -> Any:
        """Return the scheduled time, as PostgreSQL's text if it is outside Python's range."""
        return display.time_or_text(job, "scheduled_at")

    @admin.display(description="finished", empty_value="-")
    def end(self, job: ProcrastinateJob) -> Any:
        """Return the end time, as PostgreSQL's text if it is outside Python's range."""
        return display.time_or_text(job, "finished_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProcrastinateJob]:
        """Return the jobs with the beginning of their arguments instead of the arguments."""
        return with_excerpts(super().get_queryset(request))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[JobChangeList]:
        """Return the list class with the limited search."""
        return JobChangeList

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the evaluated list. Django redirects if the database refuses the URL's parameters."""
        with refused_as_bad_lookups(request, super().get_queryset(request).db):
            change_list = super().get_changelist_instance(request)
            len(change_list.result_list)  # evaluates the page here, so that nothing later can be refused
            return change_list

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[ProcrastinateJob], *args: Any, **options: Any
    ) -> Any:
        """Run an action on the selected jobs, or on none if one of the ids is invalid."""
        if all(map(is_job_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            return super().response_action(request, queryset, *args, **options)
        self.message_user(request, "A selected job has no valid id: no job was changed.", messages.WARNING)
        return None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ProcrastinateJob], search_term: str
    ) -> tuple[QuerySet[ProcrastinateJob], bool]:
        """Return the job with that id, those with that argument, or those whose names or locks contain the words."""
        if is_job_id(search_term):
            numbered = queryset.filter(pk=search_term)
            if numbered.exists():
                return numbered, False
        if search_term and is_autocomplete(request):
            queryset = within_reach(queryset, None)
        arguments = read_argument(search_term)
        if arguments is not None:
            return queryset.filter(arguments), False
        return super().get_search_results(request, queryset, search_term)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: the project defers jobs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: actions change jobs."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: workers delete jobs."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return True if the user may retry, cancel and abort jobs."""
        return super().has_change_permission(request)

    def get_urls(self) -> list[Any]:
        """Return the URLs of the admin of jobs and, with the extra ``dashboard``, those of the dashboard."""
        return [*dashboard_urls(self), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Return the list of jobs, with a link to the dashboard."""
        return super().changelist_view(request, {"has_dashboard": has_dashboard(), **(extra_context or {})})

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Return the page of one job, with the actions that its status allows."""
        if request.method not in _SAFE_METHODS:
            raise PermissionDenied
        job = self.get_object(request, object_id) if object_id is not None else None
        allowed = [action for action in ACTIONS if job is not None and action.applies_to(job)]
        context = {
            "job_actions": allowed if self.has_operate_permission(request) else [],
            "from_job_page": FROM_JOB_PAGE,
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Raise ``PermissionDenied``: workers delete jobs."""
        raise PermissionDenied
