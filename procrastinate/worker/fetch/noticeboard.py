"""What the parts of a worker post for its fetch loop."""

from __future__ import annotations

import asyncio
import dataclasses


@dataclasses.dataclass(frozen=True)
class Notices:
    """What was posted since the fetch loop last read the board.

    Attributes
    ----------
    looks:
        Jobs may be ready of which the worker has not heard.
    has_room:
        A slot may be free. A worker that hears of each new job has nothing to look for because of it.
    is_upcoming:
        Waiting jobs may have fallen due or got their lock.
    starts_over:
        Jobs may be ready that come before those of the last fetch.
    has_ended_step:
        A step of a workflow has ended, and its end may have made others ready.
    hands_over:
        A job has left its lock or its slot of a limit, and may have made the next job ready.
    is_in_doubt:
        The database may name this worker for jobs that it does not know.
    """

    looks: bool = False
    has_room: bool = False
    is_upcoming: bool = False
    starts_over: bool = False
    has_ended_step: bool = False
    hands_over: bool = False
    is_in_doubt: bool = False

    def __or__(self, other: Notices) -> Notices:
        return Notices(
            looks=self.looks or other.looks,
            has_room=self.has_room or other.has_room,
            is_upcoming=self.is_upcoming or other.is_upcoming,
            starts_over=self.starts_over or other.starts_over,
            has_ended_step=self.has_ended_step or other.has_ended_step,
            hands_over=self.hands_over or other.hands_over,
            is_in_doubt=self.is_in_doubt or other.is_in_doubt,
        )


_NONE = Notices()
_ROOM = Notices(has_room=True)
_CHANGE = Notices(has_room=True, is_upcoming=True)
_LOOK = Notices(looks=True, is_upcoming=True)
_RETURN = Notices(looks=True, starts_over=True)
_RESUMPTION = Notices(looks=True, is_upcoming=True, starts_over=True)
_STEP = Notices(has_ended_step=True)
_HAND_OVER = Notices(hands_over=True)
_DOUBT = Notices(looks=True, is_in_doubt=True)


class Noticeboard:
    """Notices for the fetch loop, and the id of the worker. It is made before all parts, and calls none of them.

    To post sets flags and wakes the loop. The loop reads all flags at the start of each round, so a notice that comes
    while a statement is under way counts for the next round. Only the event loop's thread may post.

    Parameters
    ----------
    worker_id:
        The id under which the worker is registered. It changes when the worker registers again.
    """

    def __init__(self, worker_id: int) -> None:
        self.worker_id = worker_id
        self.woken = asyncio.Event()
        """Set while the fetch loop has a reason to go on. The loop clears it."""
        self.is_stopping = False
        """Whether the worker starts no more jobs."""
        self._notices = _NONE

    @property
    def tells_of_room(self) -> bool:
        """Whether it was posted that a slot may be free, and the loop has not read it yet."""
        return self._notices.has_room

    def stop(self) -> None:
        """Say that the worker starts no more jobs."""
        self.is_stopping = True
        self.woken.set()

    def wake(self) -> None:
        """Let the loop go on with a fetch that is due, if there is one."""
        self.woken.set()

    def post_room(self, *, is_upcoming: bool = False) -> None:
        """Say that a slot may be free, and whether waiting jobs may have fallen due or got their lock."""
        self._post(_CHANGE if is_upcoming else _ROOM)

    def post_ended_step(self) -> None:
        """Say that a step of a workflow has ended. Its end may have made the next step ready."""
        self._post(_STEP)

    def post_hand_over(self) -> None:
        """Say that a job has left its lock or its slot of a limit. The next job may have got it, and be ready."""
        self._post(_HAND_OVER)

    def post_look(self) -> None:
        """Ask for a look at ready and upcoming jobs."""
        self._post(_LOOK)

    def post_return(self) -> None:
        """Say that jobs were released: some may come before those of the last fetch."""
        self._post(_RETURN)

    def post_resumption(self) -> None:
        """Say that a pause has ended. Its jobs are ready or upcoming, and may come before those of the last fetch."""
        self._post(_RESUMPTION)

    def post_doubt(self) -> None:
        """Ask the loop to reconcile with the database before the next fetch."""
        self._post(_DOUBT)

    def _post(self, notices: Notices) -> None:
        self._notices |= notices
        self.woken.set()

    def read(self) -> Notices:
        """Return the notices since the last call."""
        notices, self._notices = self._notices, _NONE
        return notices
