"""The call of a sync task in a thread, as if in the context of its run."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from procrastinate.worker.processes.fork_ends import current_process, end_fork
from procrastinate.worker.run.threads import NoThread, SyncCalls

if TYPE_CHECKING:
    from procrastinate.app import App


class ThreadCall:
    """Calls a sync task in a thread.

    Parameters
    ----------
    discard:
        Called in the thread with the exception, or ``None``, of a call that returns after the end of its run.

    Attributes
    ----------
    thread:
        The id of the thread that runs the call now.
    is_left:
        True if the run has ended and the call goes on.
    is_refused:
        True if the system refused a thread. The call never started.
    """

    def __init__(self, threads: SyncCalls, app: App, discard: Callable[[BaseException | None], None]) -> None:
        self._threads = threads
        self._app = app
        self._discard = discard
        self.thread: int | None = None
        self.is_left = False
        self.is_refused = False

    async def run(self, call: Callable[[], Any]) -> Any:
        """Call in a thread. Context variables reach the call, and its changes come back.

        Raises
        ------
        NoThread
            The system refused a thread.
        """
        context = contextvars.copy_context()
        run_in_context = functools.partial(context.run, self._capture, call)
        try:
            captured = await self._threads.run(run_in_context, self._return_late, self._note_left)
        except NoThread:
            self.is_refused = True
            raise
        self._app.adopt_context(context)
        return captured.unwrap()

    def _capture(self, call: Callable[[], Any]) -> _Captured:
        """Call in this thread, and note which one it is."""
        self.thread = threading.get_ident()
        try:
            return _capture(call)
        finally:
            self.thread = None

    def _note_left(self) -> None:
        self.is_left = True

    def _return_late(self, captured: _Captured) -> None:
        self._discard(captured.exception)
        captured.exception = None


class _Captured:
    """Result of a call in a thread. It carries exceptions: SystemExit through a future would end the event loop.

    It must forget the exception in the end. The frames of the traceback lead back to this object, and the cycle would
    keep what the task had in memory until the garbage collector runs.
    """

    def __init__(self, value: Any = None, exception: BaseException | None = None) -> None:
        self.value = value
        self.exception = exception

    def unwrap(self) -> Any:
        """Return the value, or raise the exception and forget it."""
        exception, self.exception = self.exception, None
        if exception is None:
            return self.value
        try:
            raise exception
        finally:
            del exception  # this frame is in the traceback, too


def _capture(call: Callable[[], Any]) -> _Captured:
    process = current_process()
    try:
        captured = _Captured(value=call())
    except BaseException as error:
        captured = _Captured(exception=error)
    end_fork(process, captured.exception)
    return captured
