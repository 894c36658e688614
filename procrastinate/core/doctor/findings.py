"""Frozen answers of the doctor."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections.abc import Collection

from procrastinate.core.inspection.facts import POLL


class Severity(enum.StrEnum):
    """How bad a finding is."""

    FAULT = "fault"
    """Jobs do not run, or are lost, or run slowly because of it. A person has to act."""
    WARNING = "warning"
    """The problem can become a fault, or end by itself."""
    NOTE = "note"
    """A person has set this on purpose. It may explain what a reader sees."""


_ORDER = list(Severity)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is wrong with the installation.

    ``code`` is stable. ``subject`` is the name of what is concerned, such as an index, a queue or a worker, and is
    empty for the installation as a whole. ``text`` is a sentence, and ``advice`` is the way out. The last three may
    quote names from rows.
    """

    code: str
    severity: Severity
    text: str
    advice: str
    subject: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """A check. ``found`` has the codes of its findings. ``error`` says why the check could not be made."""

    name: str
    found: tuple[str, ...] = ()
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """Everything that is wrong with the installation. The worst findings come first."""

    now: datetime.datetime | None
    findings: tuple[Finding, ...]
    checks: tuple[Examination, ...]

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding, or ``None`` if there is none."""
        return self.findings[0].severity if self.findings else None

    def joined(self, findings: Collection[Finding], checks: Collection[Examination] = ()) -> Diagnosis:
        """Return a diagnosis with more findings and checks."""
        return dataclasses.replace(
            self, findings=worst_first([*self.findings, *findings]), checks=(*self.checks, *checks)
        )


def worst_first(findings: Collection[Finding]) -> tuple[Finding, ...]:
    """Return the findings, the worst first. Findings of the same severity stay in order."""
    return tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.severity)))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DoctorLimits:
    """The thresholds of the doctor's findings.

    Parameters
    ----------
    clock_seconds:
        Difference between the clocks of the program and of the database, in seconds.
    transaction_seconds:
        Age of a transaction that keeps vacuum from removing dead rows, in seconds.
    left_alone_seconds:
        Time for which free workers do not take a ready job, in seconds. By default the usual polling interval.
    dead_rows:
        Number of dead rows of a table, if it is also more than twice the number of live rows.
    large_table_rows:
        Number of rows of the jobs table. In a larger table, old ended jobs are a finding.
    history_days:
        Age of the oldest ended job of a large table, in days.
    transaction_ids:
        Age of the oldest transaction id of the database. PostgreSQL stops writes at two billion.
    connections_part:
        Part of the server's connections that is in use.
    """

    clock_seconds: float = 2.0
    transaction_seconds: float = 3600.0
    left_alone_seconds: float = POLL
    dead_rows: int = 100_000
    large_table_rows: int = 1_000_000
    history_days: float = 30.0
    transaction_ids: int = 1_000_000_000
    connections_part: float = 0.9
