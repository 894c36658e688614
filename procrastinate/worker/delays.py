"""Outcomes that cannot be written now: when each is tried again, and when the log says so."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from procrastinate.long_waits import Silence
from procrastinate.worker.backoff import Backoff
from procrastinate.worker.outcome import Outcome

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
"""Seconds until an outcome is tried again whose row another session has locked. A hundred such rows cost the database a
hundred short statements a second at most.
"""
_FIRST_WORD = 1.0
"""Seconds after which the log names an outcome that waits."""


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
        self._by_run: dict[tuple[int, int], _Delay] = {}

    def next_pause(self, outcome: Outcome, why: str) -> float:
        """Return the seconds until the outcome is tried again.

        Parameters
        ----------
        why:
            What keeps it from being written, for the log.
        """
        delay = self._by_run.setdefault(_run(outcome), _Delay(self._clock()))
        waited = self._clock() - delay.since
        if delay.silence.is_over(waited):
            self._warn(outcome, waited, why)
        return delay.pauses.next_wait()

    def forget(self, outcome: Outcome) -> None:
        """The outcome is written, or will never be."""
        self._by_run.pop(_run(outcome), None)

    def _warn(self, outcome: Outcome, waited: float, why: str) -> None:
        with contextlib.suppress(BaseException):  # a log handler that raises must not keep outcomes from being written
            self._logger.warning(
                "The outcome of job %s (%s) has waited %.0f s to be recorded: %s",
                outcome.job.call_string,
                outcome.status.value,
                waited,
                why,
                extra={"action": "outcome_waits", "job": outcome.job.log_context()},
            )


class _Delay:
    def __init__(self, since: float) -> None:
        self.since = since
        self.silence = Silence(_FIRST_WORD)
        self.pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)


def _run(outcome: Outcome) -> tuple[int, int]:
    return outcome.job_id, outcome.job.attempts
