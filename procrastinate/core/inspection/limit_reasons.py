"""Reasons of jobs that wait for a slot of their limit."""

from __future__ import annotations

from procrastinate._durations import duration
from procrastinate.core.inspection import facts, limit_facts
from procrastinate.core.inspection.case import Case
from procrastinate.core.inspection.explanation_types import Reason, ReasonKind
from procrastinate.core.inspection.limit_facts import LimitFacts


def limit_undefined(case: Case) -> Reason | None:
    """Is its limit defined."""
    if case.limit is not None:
        return None
    return Reason(
        code="limit-undefined",
        kind=ReasonKind.BLOCKED,
        text=f"No worker has defined the limit {case.row.limit_name!r}, and its jobs wait",
        advice="Start a worker of the program that has the limit, or set numbers with `procrastinate limits set`",
    )


def limit_too_small(case: Case) -> Reason | None:
    """Does it take more slots than its limit has."""
    limit = case.limit
    if limit is None or case.row.limit_weight <= limit.heaviest:
        return None
    return Reason(
        code="limit-too-small",
        kind=ReasonKind.BLOCKED,
        text=(
            f"{_key(case)}: the job has the weight {case.row.limit_weight}, and the limit allows {limit.heaviest}. It "
            "cannot start, and the jobs behind it pass it by"
        ),
        advice="Set a higher number with `procrastinate limits set`, or cancel the job",
    )


def limit_full(case: Case) -> Reason | None:
    """Are all slots of its key taken."""
    limit = case.limit
    if limit is None or limit.concurrency is None or limit.held + limit.next_weight <= limit.concurrency:
        return None
    return Reason(
        code="limit-full",
        kind=ReasonKind.WAITS,
        text=(
            f"{_key(case)}: {limit.held} of {limit.concurrency} slots are taken{_oldest(limit)}{_in_front(case)}"
            f"{_needs(limit)}"
        ),
        advice="Wait, or set a higher number with `procrastinate limits set`",
    )


def limit_total_full(case: Case) -> Reason | None:
    """Are all slots of all keys of its limit taken."""
    limit = case.limit
    if limit is None or limit.total is None or limit.held_in_all + limit.next_weight <= limit.total:
        return None
    return Reason(
        code="limit-total-full",
        kind=ReasonKind.WAITS,
        text=(
            f"{_key(case)}: {limit.held_in_all} of {limit.total} slots of all keys are taken, {limit.held} of them by "
            f"this key{_in_front(case)}{_needs(limit)}"
        ),
        advice="Wait, or set a higher number with `procrastinate limits set`",
    )


def limit_capacity_full(case: Case) -> Reason | None:
    """Do jobs of its fair limit have all slots of the workers of their queues."""
    limit = case.limit
    if limit is None or limit.capacity is None or limit.jobs_in_all < limit.capacity:
        return None
    return Reason(
        code="limit-capacity-full",
        kind=ReasonKind.WAITS,
        text=(
            f"{_key(case)}: {limit.jobs_in_all} jobs of the limit have a slot, and the workers of their queues can run "
            f"{limit.capacity} jobs at once{_in_front(case)}"
        ),
        advice="Wait, or start more workers",
    )


def limit_rate(case: Case) -> Reason | None:
    """Have as many jobs started as its rates allow."""
    limit = case.limit
    if limit is None or limit.next_start is None:
        return None
    return Reason(
        code="limit-rate",
        kind=ReasonKind.WAITS,
        text=(
            f"{_key(case)}: the rate is used up, and the next start is in {duration(limit.next_start_in)}"
            f"{_in_front(case)}{_needs(limit)}"
        ),
        advice="Wait, or set a higher rate with `procrastinate limits set --rate`",
    )


def limit_held_off(case: Case) -> Reason | None:
    """Has a job of its key asked for a pause."""
    limit = case.limit
    if limit is None or limit.held_off_for is None:
        return None
    return Reason(
        code="limit-held-off",
        kind=ReasonKind.WAITS,
        text=f"{_key(case)}: a job of the key held it off, for another {duration(limit.held_off_for)}{_in_front(case)}",
        advice="Wait. The next job starts when the time is over",
    )


WAITS_FOR = (limit_too_small, limit_full, limit_total_full, limit_capacity_full, limit_rate, limit_held_off)


def limit_has_room(case: Case) -> Reason | None:
    """Does a worker still have to give it a slot."""
    if case.limit is None or any(check(case) for check in WAITS_FOR):
        return None
    return Reason(
        code="limit-has-room",
        kind=ReasonKind.WAITS,
        text=f"{_key(case)} has a free slot. A worker gives it away with its next look{_in_front(case)}",
        advice="Wait if a worker is alive: it looks at all lines with each heartbeat",
    )


def _key(case: Case) -> str:
    key = f", key {case.row.limit_key!r}" if case.row.limit_key else ""
    return f"Limit {case.row.limit_name!r}{key}"


def _needs(limit: LimitFacts) -> str:
    return "" if limit.next_weight == 1 else f". The next job of the key has the weight {limit.next_weight}"


def _oldest(limit: LimitFacts) -> str:
    if limit.oldest_id is None or limit.oldest_age is None:
        return ""
    return f" (job {limit.oldest_id} for {duration(limit.oldest_age)})"


def _in_front(case: Case) -> str:
    count = limit_facts.count_in_line(case.connection, case.row)
    if not count:
        return ", and the job is the next in line"
    if count == 1:
        return ", and 1 job of the key comes first"
    shown = f"more than {facts.COUNTED:,}" if count > facts.COUNTED else f"{count:,}"
    return f", and {shown} jobs of the key come first"
