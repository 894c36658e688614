"""Frozen answers to the question why a job does not run."""

from __future__ import annotations

import dataclasses
import datetime
import enum


class ReasonKind(enum.StrEnum):
    """What a reason means for the reader."""

    WAITS = "waits"
    """The job waits as intended, and goes on by itself."""
    BLOCKED = "blocked"
    """A person has to do something."""
    RUNS = "runs"
    """The job runs."""
    ENDED = "ended"
    """The job has ended."""
    MISSING = "missing"
    """There is no such job."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """A reason why a job does not run.

    ``code`` is stable, ``text`` is a sentence, and ``advice`` is the way out. Both texts may quote names from rows.
    """

    code: str
    kind: ReasonKind
    text: str
    advice: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """A check. ``found`` is the code of its reason, or ``None``. ``error`` says why the check could not be made."""

    name: str
    found: str | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why a job does not run. ``reasons`` are in order of weight, and the first is the headline."""

    job_id: int
    now: datetime.datetime
    state: str
    reasons: tuple[Reason, ...]
    checks: tuple[CheckResult, ...]

    @property
    def headline(self) -> Reason:
        """The first reason."""
        return self.reasons[0]
