"""Schedule the retries and the log messages of outcomes that cannot be written now."""

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
"""Longest pause in seconds before the next try to write to a locked row.

A hundred locked rows cost the database at most a hundred short statements a second.
"""
_FIRST_WORD = 1.0
"""Seconds after which the log first names a waiting outcome."""
_MOST_TRIES = 5
"""Refusals after which a stopping worker no longer waits for an outcome."""
_REFUSED_PAUSE = 10.0
"""Seconds until the next try of an outcome that the database refuses permanently, for example by a user's trigger."""


class Delays:
    """Waiting outcomes, each with its own pauses: no outcome delays another.

    Parameters
    ----------
    clock:
        Returns monotonic time in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._by_run: dict[Run, _Delay] = {}

    def is_given_up(self, run: Run) -> bool:
        """Return True if a stopping worker does not wait for this outcome, because the database keeps refusing it."""
        delay = self._by_run.get(run)
        return delay is not None and delay.is_given_up

    def after_lock(self, outcome: Outcome) -> float:
        """Return the seconds until the next try of an outcome whose row another session has locked."""
        delay = self._delay(outcome)
        delay.is_given_up = False
        self._say(outcome, delay, "another session has locked its row")
        return delay.pauses.next_wait()

    def after_refusal(self, outcome: Outcome, error: Exception) -> float:
        """Return the seconds until the next try of an outcome that the database refused for now."""
        delay = self._delay(outcome)
        delay.refusals += 1
        delay.is_given_up = delay.refusals >= _MOST_TRIES
        self._say(outcome, delay, f"the database refuses it ({error})")
        return delay.pauses.next_wait()

    def after_final_refusal(self, outcome: Outcome) -> float:
        """Return the seconds until the next try of an outcome that the database refused permanently."""
        self._delay(outcome).is_given_up = True
        return _REFUSED_PAUSE

    def forget(self, run: Run) -> None:
        """Forget an outcome that is written or withdrawn."""
        self._by_run.pop(run, None)

    def _delay(self, outcome: Outcome) -> _Delay:
        return self._by_run.setdefault(outcome.run, _Delay(since=self._clock()))

    def _say(self, outcome: Outcome, delay: _Delay, why: str) -> None:
        """Name the outcome in the log, at growing intervals."""
        waited = self._clock() - delay.since
        if not delay.silence.is_over(waited):
            return
        with contextlib.suppress(BaseException):  # a failing log handler must not keep outcomes from being written
            self._logger.warning(
                "The outcome of job %s (%s) has been unrecorded for %.0f s: %s",
                outcome.job.call_string,
                outcome.status.value,
                waited,
                why,
                extra={"action": "outcome_waits", "job": outcome.job.log_context()},
            )


@dataclasses.dataclass
class _Delay:
    """Waiting time, refusals and pauses of one outcome."""

    since: float
    silence: Silence = dataclasses.field(default_factory=lambda: Silence(_FIRST_WORD))
    refusals: int = 0
    is_given_up: bool = False
    pauses: Backoff = dataclasses.field(default_factory=lambda: Backoff(_FIRST_PAUSE, _LONGEST_PAUSE))
