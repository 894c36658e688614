"""The stand-in for a task of Celery: declared, called and deferred as there, and run by a worker of this queue."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from procrastinate._functions.import_path import importable_name
from procrastinate._functions.kinds import check_function, is_async_callable
from procrastinate._functions.signature import own_signature
from procrastinate._functions.stand_in import CallForMocks, stand_in_for
from procrastinate._pages import page
from procrastinate.exceptions import UnboundTaskError
from procrastinate.from_celery import canvas
from procrastinate.from_celery.exceptions import NotSupported, Retry
from procrastinate.from_celery.options import (
    CallOptions,
    TaskOptions,
    read_call_options,
    read_expires,
    read_retry_options,
    refuse_assignment,
)
from procrastinate.from_celery.request import Request, request_for, requested
from procrastinate.from_celery.results import AsyncResult
from procrastinate.from_celery.retries import next_retry
from procrastinate.from_celery.stored_call import StoredCall

if TYPE_CHECKING:
    from procrastinate.calls import Call
    from procrastinate.from_celery.app import CeleryTasks

_CANVAS = frozenset({"add_to_chord", "chunks", "map", "replace", "s", "si", "signature", "starmap", "subtask"})
_CALLS = frozenset({"apply", "run"})
"""What runs the function of a Celery task here and now."""


class CeleryTask:
    """A task that was declared with ``@shared_task`` or ``@app.task``. Called, it is the function.

    Attributes
    ----------
    name:
        The name under which its jobs are stored. It is the one that Celery gives it.
    options:
        What it was declared with.
    """

    def __init__(self, function: Callable[..., Any], options: TaskOptions) -> None:
        self.function = function
        self.options = options
        self.name: str = options.name or _default_name(function)
        check_function(self.name, function)
        self._is_async = is_async_callable(function)
        self._tasks: CeleryTasks | None = None
        self._signature = own_signature(function) if options.typing else None
        stand_in_for(function, self, is_async=self._is_async)
        if options.bind:
            self.__signature__ = _without_self(function)  # a call does not name the task

    __func__ = CallForMocks()

    def __reduce__(self) -> str:
        """Pickle the task like its function, by qualified name. A copy is the task itself."""
        return str(getattr(self.function, "__qualname__", self.name))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function, here and now. The call has a request of its own, also inside a job."""
        request = Request(args=args, kwargs=kwargs)
        if self._is_async:
            return self._call_async(request)
        with requested(self, request):
            return self.call_function(*args, **kwargs)

    async def _call_async(self, request: Request) -> Any:
        with requested(self, request):
            return await self.call_function(*request.args, **request.kwargs)

    def call_function(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function with the request that a worker has set."""
        return self.function(*self._bound(), *args, **kwargs)

    def __repr__(self) -> str:
        return f"<CeleryTask {self.name}>"

    def __getattr__(self, name: str) -> Any:
        if name in _CANVAS:
            canvas.refuse(f"{self.name}.{name}")
        if name.startswith("__"):
            raise AttributeError(name)
        way_out = f": call the task, as in {self.name.rpartition('.')[2]}(1, 2)" if name in _CALLS else ""
        raise NotSupported(
            f"The stand-in for a Celery task has no {name!r}{way_out}. See {page('from-celery', 'Tasks')}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_assignment(name)
        super().__setattr__(name, value)

    def belong_to(self, tasks: CeleryTasks) -> None:
        """Let jobs of this task be stored by the app of these tasks."""
        self._tasks = tasks

    @property
    def app(self) -> CeleryTasks:
        """The tasks that this one belongs to.

        Raises
        ------
        UnboundTaskError
            No ``CeleryTasks`` was made so far.
        """
        if self._tasks is None:
            raise UnboundTaskError(
                f"Task {self.name} belongs to no app: import the module that makes CeleryTasks(app) first"
            )
        return self._tasks

    @property
    def request(self) -> Request:
        """What is known of the job that runs now."""
        return request_for(self)

    @property
    def max_retries(self) -> int | None:
        """How many times it is retried."""
        return self.options.max_retries

    @property
    def default_retry_delay(self) -> float:
        """Seconds until it runs again."""
        return self.options.default_retry_delay

    def delay(self, /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Defer a job that calls the function with these arguments; raises as :meth:`apply_async`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Defer a job.

        Parameters
        ----------
        args, kwargs:
            What the function is called with.
        options:
            The fields of :class:`~.options.CallOptions`.

        Raises
        ------
        NotSupported
            An option has no stand-in.
        TypeError
            The function cannot be called with these arguments.
        InvalidJob
            An argument is not JSON.
        """
        call_options = read_call_options(options)
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        self._check(args, kwargs)
        expires = self.options.expires if call_options.expires is None else call_options.expires
        call = StoredCall(args=args, kwargs=kwargs, expires=read_expires(expires))
        return self.app.store(self.name, call, self._with_defaults(call_options))

    def delay_on_commit(self, /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Defer a job. In a Django project it belongs to the open transaction, so it starts after the commit."""
        return self.delay(*args, **kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Defer a job, as :meth:`delay_on_commit` does."""
        return self.apply_async(*args, **kwargs)

    def as_step(self, /, *args: Any, **kwargs: Any) -> Call[Any]:
        """Return the call of the task, to become a step of a workflow. ``Workflow.add`` does it for keyword arguments.

        Values of other steps may be among the arguments. Nothing is stored.

        Raises
        ------
        NotSupported
            The task is declared with ``expires``. A step is never left out.
        TypeError
            The function cannot be called with these arguments.
        """
        if self.options.expires is not None:
            raise NotSupported(
                f"Task {self.name} expires, and a step of a workflow is never left out: declare a task without expires "
                f"for the workflow. See {page('from-celery', 'Canvas')}"
            )
        self._check(args, kwargs)
        return self.app.app.tasks[self.name].call(**StoredCall(args=args, kwargs=kwargs).as_arguments())

    def AsyncResult(self, task_id: str) -> AsyncResult:
        """Return the job of that id."""
        return self.app.AsyncResult(task_id)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime.datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Let the job run again later.

        Parameters
        ----------
        exc:
            What has gone wrong. It is raised if the task has run often enough.
        throw:
            Raise the exception that ends the run. If false, it is returned, and the task raises it.
        eta, countdown:
            When, as an aware datetime or in seconds from now. ``countdown`` comes first, as in Celery. By default,
            ``default_retry_delay`` counts.
        max_retries:
            Instead of the task's own.
        options:
            ``queue`` and ``priority`` are new values for the job.

        Raises
        ------
        Retry
            The job runs again.
        MaxRetriesExceededError
            The task has run often enough, and no ``exc`` was given.
        NotSupported
            ``args`` or ``kwargs`` were given, because a job keeps its arguments; or an option has no stand-in.
        ValueError
            ``eta`` has no time zone.
        """
        if args is not None or kwargs is not None:
            raise NotSupported(
                f"self.retry(args=..., kwargs=...) of task {self.name} has no stand-in: a job keeps its arguments. "
                "Defer another job and return"
            )
        retry_options = read_retry_options(options)
        if self.request.called_directly:
            raise exc or Retry()
        retry = next_retry(
            self.options,
            self.request.retries,
            task_name=self.name,
            error=exc,
            countdown=countdown,
            eta=eta,
            max_retries=max_retries,
            queue=retry_options.queue,
            priority=self.app.as_own_priority(retry_options.priority),
        )
        if throw:
            raise retry from exc
        return retry

    def update_state(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to store a state.

        Raises
        ------
        NotSupported
            Always.
        """
        raise NotSupported(
            f"self.update_state() has no stand-in: write progress to a table of yours. "
            f"See {page('from-celery', 'Options')}"
        )

    def _with_defaults(self, given: CallOptions) -> CallOptions:
        return CallOptions(
            countdown=given.countdown,
            eta=given.eta,
            queue=self.options.queue if given.queue is None else given.queue,
            priority=self.options.priority if given.priority is None else given.priority,
            connection=given.connection,
        )

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._signature is not None:
            self._signature.bind(*self._bound(), *args, **kwargs)

    def _bound(self) -> tuple[Any, ...]:
        return (self,) if self.options.bind else ()


def _default_name(function: Callable[..., Any]) -> str:
    return f"{importable_name(function.__module__)}.{function.__name__}"


def _without_self(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, say
        return None
    return signature.replace(parameters=list(signature.parameters.values())[1:])
