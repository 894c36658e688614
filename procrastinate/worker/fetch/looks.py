"""Gives the fetch loop a reason for each look. A look costs the server a statement."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
from collections.abc import Callable

from procrastinate.core import Promotion, Resolution
from procrastinate.core.channels import JobInserted
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.fetch.hand_overs import HandOvers
from procrastinate.worker.fetch.pace import Pace

SECOND_LOOK = 0.1
"""Seconds. A fetch passes over rows that another session holds for a moment: after a notification, one that finds
nothing is repeated once."""
NET = 0.1
"""Seconds between two looks, on average over all workers, for jobs whose notification named another worker. That one
may be dead, or its event loop be blocked."""
REST = 0.01
"""Seconds between the end of a step and a promotion, if the worker finds jobs to start without one."""
_LONGEST_TIMER = 3600.0
_LONGEST_TURN = 0.5
"""Seconds until the next try if another worker promotes. Its turn takes milliseconds."""
_READY_FOR_OTHERS = "ready for others"
_UPCOMING_OF_OTHERS = "upcoming of others"
_REST = "rest"

# Growing pauses until the next promotion, by what the last one has left. Each is a timer.
_UNDECIDED = "undecided"
"""Jobs on which it could not decide."""
_OTHERS_TURN = "others' turn"
"""Everything, because another worker promotes."""
_ARRIVALS = "arrivals"
"""Steps of workflows whose rows other sessions hold."""
_REFUSALS = "refusals"
"""Everything, because the database refused it."""


@dataclasses.dataclass(frozen=True)
class _Reasons:
    """Why a fetch is made, as far as it matters for what follows if the fetch finds nothing."""

    is_notified: bool = False
    has_ended_step: bool = False
    is_handed_over: bool = False


_NO_REASONS = _Reasons()


class Looks:
    """Reasons to look for jobs, and the timers that give them.

    Any role may send notifications, so looks that follow one are bounded by :class:`Pace`.

    Parameters
    ----------
    woken:
        Lets the fetch loop go on. The loop clears it.
    longest_pause:
        Seconds of the longest pause: until jobs are looked at again on which a promotion could not decide, and for jobs
        that are left to other workers.
    may_overlook:
        Whether a fetch may find fewer jobs than are ready while other workers fetch, too.
    """

    def __init__(self, woken: asyncio.Event, *, longest_pause: float, may_overlook: bool) -> None:
        self._woken = woken
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pauses = {
            _UNDECIDED: Backoff(first=0.02, longest=longest_pause),
            _OTHERS_TURN: Backoff(first=0.02, longest=_LONGEST_TURN),
            _ARRIVALS: Backoff(first=0.02, longest=longest_pause),
            _REFUSALS: Backoff(first=0.1, longest=longest_pause),
        }
        self._undecided = 0
        self._longest_pause = longest_pause
        self._may_overlook = may_overlook
        self._pace = Pace()
        self._next = self._last = _NO_REASONS
        self.hand_overs = HandOvers()
        self.is_fetch_due = True
        self.is_promotion_due = True

    def look(self, upcoming: bool = True) -> None:
        """Fetch, and (``upcoming``) promote before that."""
        self.is_fetch_due = True
        self.promote(upcoming)

    def promote(self, upcoming: bool = True) -> None:
        """Promote, if ``upcoming``, and fetch if there was anything to promote."""
        self.is_promotion_due = self.is_promotion_due or upcoming
        self._woken.set()

    def step_ended(self) -> None:
        """Fetch after the end of a step, because the end may have made the next step ready.

        Promote at once if the fetch finds nothing, and otherwise in a moment, for steps that the end left waiting.
        """
        self._next = dataclasses.replace(self._next, has_ended_step=True)
        self.look(upcoming=False)

    def handed_over(self) -> None:
        """Fetch after a job has left its lock or its slot, because the next job may be ready.

        Promote if the fetch finds nothing: an admission may have to choose the next job.
        """
        self.hands_over()
        self.look(upcoming=False)

    def hands_over(self) -> None:
        """The next fetch follows a job that leaves its lock or its slot, or goes along with its outcome."""
        self._next = dataclasses.replace(self._next, is_handed_over=True)
        self.hand_overs.note()

    def notified(self, notification: JobInserted, worker_id: int) -> bool:
        """Look at once if the notification is for this worker, or else a little later.

        Returns
        -------
        Whether this worker is one of those that are named.
        """
        upcoming = notification.get("upcoming", True)
        named = notification.get("workers")
        if named is not None and worker_id not in named:
            self._look_after_others(notification.get("waiting", 1), upcoming)
            return False
        self._next = dataclasses.replace(self._next, is_notified=True)
        self._look_at_pace(upcoming)
        return named is not None

    def _look_at_pace(self, upcoming: bool) -> None:
        """Look at once, or a little later after many looks in vain. Further notifications until then share the look."""
        self.is_fetch_due = True
        self.is_promotion_due = self.is_promotion_due or upcoming
        if self._woken.is_set() or "pace" in self._timers:
            return
        pause = self._pace.wait(asyncio.get_running_loop().time())
        if pause > 0:
            self._call_later("pace", pause, self._woken.set)
        else:
            self._woken.set()

    def _look_after_others(self, waiting: int, upcoming: bool) -> None:
        """Pause for longer the more workers there are, so that all of them together look equally often."""
        name = _UPCOMING_OF_OTHERS if upcoming else _READY_FOR_OTHERS
        if name not in self._timers:
            pause = NET * (0.5 + 2 * random.random() * max(waiting, 1))
            self._call_later(name, min(pause, self._longest_pause), functools.partial(self._look_at_pace, upcoming))

    def fetches(self) -> None:
        """Begin a fetch. It may not see what is notified from now on."""
        self.is_fetch_due = False
        self._last, self._next = self._next, _NO_REASONS
        self._cancel(_READY_FOR_OTHERS)

    def fetched(self, *, found: bool, has_room: bool) -> None:
        """Note what a fetch has found. If there is no room left, more may be ready."""
        self.is_fetch_due = self.is_fetch_due or not has_room or (found and self._may_overlook)
        if found:
            self._pace.found()
        elif self._last.is_notified and has_room:
            self.look_again_later()
        if (self._last.has_ended_step or self._last.is_handed_over) and not found:
            self.promote()
        elif self._last.has_ended_step and _REST not in self._timers:
            self._call_later(_REST, REST, self.promote)

    def look_again_later(self) -> None:
        """Fetch once more in a moment, for rows that another session holds just now."""
        self._call_later("second look", SECOND_LOOK, functools.partial(self.look, upcoming=False))

    def promotes(self) -> None:
        """Begin a promotion."""
        self.is_promotion_due = False
        self._cancel(_UPCOMING_OF_OTHERS)
        self._cancel(_REST)

    def promoted(self, promotion: Promotion) -> None:
        """Fetch what a promotion found, and promote again if it left anything.

        Promote again at once if that gets on, in a moment if others have to act first, or when a job falls due.
        """
        self._end_pauses(_REFUSALS)
        self._note_undecided(promotion.undecided)
        gets_on = bool(promotion.promoted or promotion.parked)
        if gets_on:
            self._pace.found()
        if promotion.promoted:
            self.look(upcoming=False)
        self._set_due_timer(promotion.next_due_in)
        if not promotion.again:
            self._end_pauses(_UNDECIDED, _OTHERS_TURN)
        elif gets_on:
            self.promote()
        else:
            self._promote_later(_OTHERS_TURN if promotion.undecided is None else _UNDECIDED)

    def _note_undecided(self, number: int | None) -> None:
        """Wait briefly again if more jobs are left undecided than last time: the new ones may be decided on soon."""
        if number is None:
            return
        if number > self._undecided:
            self._end_pauses(_UNDECIDED)
        self._undecided = number

    def resolved(self, resolution: Resolution) -> None:
        """Look at the steps of workflows again, at once if that gets on, or in a moment if others hold rows.

        What the database refuses to change is no reason for a worker without jobs to stay.
        """
        if resolution.gets_on:
            self._pace.found()
            self._end_pauses(_ARRIVALS)
            self.look()
        elif resolution.left or not resolution.refused:
            self._promote_later(_ARRIVALS)
        else:
            self._begin_pause(_ARRIVALS)

    def promotion_refused(self, *, is_passing: bool) -> None:
        """Fetch what is ready after the database has refused a promotion, and promote again later.

        Parameters
        ----------
        is_passing:
            Whether a worker without jobs waits for the next try.
        """
        self.is_fetch_due = True
        if is_passing:
            self._promote_later(_REFUSALS)
        else:
            self._begin_pause(_REFUSALS)

    def _set_due_timer(self, next_due_in: float | None) -> None:
        self._cancel("due")
        if next_due_in is not None:
            self._call_later("due", min(max(next_due_in, 0), _LONGEST_TIMER), self.promote)

    def _promote_later(self, left: str) -> None:
        """Promote later, because another worker promotes or holds the rows. The pauses grow."""
        self.is_promotion_due = True
        self._begin_pause(left)

    def _begin_pause(self, left: str) -> None:
        """Promote when the pause is over. A promotion for another reason does not prolong it, nor those that follow.

        So a job is looked at again after about as long as it was held up, however many promotions there were.
        """
        if left not in self._timers:
            self._call_later(left, self._pauses[left].next_wait(), self.promote)

    def _end_pauses(self, *left: str) -> None:
        """Promote for another reason next, and begin with the shortest pauses after that."""
        for name in left:
            self._cancel(name)
            self._pauses[name].reset()

    def close(self) -> None:
        """Wake the loop no more."""
        for name in list(self._timers):
            self._cancel(name)

    def _call_later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)

        def ring() -> None:
            del self._timers[name]
            call()

        self._timers[name] = asyncio.get_running_loop().call_later(seconds, ring)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
