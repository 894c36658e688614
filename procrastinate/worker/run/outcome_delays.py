"""Outcomes that cannot be written now: when each is tried again, and when the log says so."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable

from procrastinate._long_waits import Silence
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.run.outcome import Outcome, Run

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""Seconds until an outcome is tried again whose row another session has locked. A hundred such rows cost the database a
hundred short statements a second at most.
"""
_FIRST_WORD = 1.0
"""Seconds after which the log names an outcome that waits."""
_MOST_TRIES = 5
"""How often the database refuses an outcome for now until a worker that stops waits for it no more."""
_REFUSED_PAUSE = 10.0
"""Seconds until an outcome is tried again that the database refuses for good: by a trigger of the user's, say."""


class Delays:
    """The outcomes that wait, each with its own pauses: no outcome waits for another.

    Parameters
    ----------
    clock:
        Returns seconds that only grow.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._by_run: dict[Run, _Delay] = {}

    def is_given_up(self, run: Run) -> bool:
        """Return whether a worker that stops does not wait for this outcome: the database refuses it each time."""
        delay = self._by_run.get(run)
        return delay is not None and delay.is_given_up

    def after_lock(self, outcome: Outcome) -> float:
        """Return the seconds until an outcome is tried again whose row another session has locked."""
        delay = self._delay(outcome)
        delay.is_given_up = False
        self._say(outcome, delay, "another session has its row locked")
        return delay.pauses.next_wait()

    def after_refusal(self, outcome: Outcome, error: Exception) -> float:
        """Return the seconds until an outcome is tried again that the database has refused for now."""
        delay = self._delay(outcome)
        delay.refusals += 1
        delay.is_given_up = delay.refusals >= _MOST_TRIES
        self._say(outcome, delay, f"the database refuses it ({error})")
        return delay.pauses.next_wait()

    def after_final_refusal(self, outcome: Outcome) -> float:
        """Return the seconds until an outcome is tried again that the database has refused for good."""
        self._delay(outcome).is_given_up = True
        return _REFUSED_PAUSE

    def forget(self, run: Run) -> None:
        """The outcome is written, or will never be."""
        self._by_run.pop(run, None)

    def _delay(self, outcome: Outcome) -> _Delay:
        return self._by_run.setdefault(outcome.run, _Delay(since=self._clock()))

    def _say(self, outcome: Outcome, delay: _Delay, why: str) -> None:
        """Name the outcome in the log, more and more rarely."""
        waited = self._clock() - delay.since
        if not delay.silence.is_over(waited):
            return
        with contextlib.suppress(BaseException):  # a log handler that raises must not keep outcomes from being written
            self._logger.warning(
                "The outcome of job %s (%s) has waited %.0f s to be recorded: %s",
                outcome.job.call_string,
                outcome.status.value,
                waited,
                why,
                extra={"action": "outcome_waits", "job": outcome.job.log_context()},
            )


@dataclasses.dataclass
class _Delay:
    """How long one outcome has waited, and what comes next."""

    since: float
    silence: Silence = dataclasses.field(default_factory=lambda: Silence(_FIRST_WORD))
    refusals: int = 0
    is_given_up: bool = False
    pauses: Backoff = dataclasses.field(default_factory=lambda: Backoff(_FIRST_PAUSE, _LONGEST_PAUSE))
