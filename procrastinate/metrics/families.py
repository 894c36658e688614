"""The metrics: their names, their types, and their samples from what the database says."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping

from procrastinate.core.inspection import Figures, Queues, QueueState, RunTotals, UpkeepFigures
from procrastinate.core.statistics import BOUNDS, BUCKETS

MOST_TASKS = 200
"""Maximum number of pairs of queue and task with series of their own. The others are added up."""
OTHER = "other"
"""The label for everything beyond that."""

_PREFIX = "procrastinate_"
_INFINITY = "+Inf"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A number with its labels. ``suffix`` follows the name of the family."""

    value: float
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    suffix: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """A metric: the name without a suffix, the type of Prometheus, a text, and the samples."""

    name: str
    type: str
    help: str
    samples: tuple[Sample, ...]


def _gauge(name: str, help: str, samples: Iterable[Sample]) -> Family:
    return Family(_PREFIX + name, "gauge", help, tuple(samples))


def families(queues: Queues, figures: Figures) -> list[Family]:
    """Return all metrics."""
    runs = _with_bounded_labels(figures.totals)
    return [
        *_of_queues(queues),
        *_of_workers(figures),
        *_of_upkeep(figures.upkeep),
        *_of_runs(runs),
        _truncated(queues, figures, runs),
    ]


def _of_queues(queues: Queues) -> Iterator[Family]:
    def each(name: str, help: str, value: Mapping[str, float]) -> Family:
        return _gauge(name, help, (Sample(number, {"queue": queue}) for queue, number in value.items()))

    yield _gauge("queue_jobs", "Unfinished jobs, counted up to a limit.", _jobs_by_state(queues.queues))
    yield _gauge("queue_jobs_capped", "1 if the count stopped at its limit, otherwise absent.", _capped(queues.queues))
    yield each(
        "queue_oldest_ready_seconds",
        "Seconds since the oldest ready job became ready, 0 if none is ready.",
        {one.name: seconds_ready(queues, one) for one in queues.queues},
    )
    yield each(
        "queue_paused", "1 if the queue is paused.", {one.name: float(one.pause is not None) for one in queues.queues}
    )
    yield each(
        "queue_workers",
        "Live workers that fetch from the queue. Workers of older releases do not count.",
        {one.name: one.served_by for one in queues.queues},
    )
    yield each("queue_slots", "Slots of the live workers of the queue.", {one.name: one.slots for one in queues.queues})


def _counts(queue: QueueState) -> dict[str, tuple[int, bool]]:
    return {state.value: (count.number, count.is_more) for state, count in queue.counts.items()}


def _jobs_by_state(queues: Iterable[QueueState]) -> Iterator[Sample]:
    for queue in queues:
        for state, (number, _) in _counts(queue).items():
            yield Sample(number, {"queue": queue.name, "state": state})


def _capped(queues: Iterable[QueueState]) -> Iterator[Sample]:
    for queue in queues:
        for state, (_, is_more) in _counts(queue).items():
            if is_more:
                yield Sample(1, {"queue": queue.name, "state": state})


def seconds_ready(queues: Queues, queue: QueueState) -> float:
    """Return how long the oldest ready job of a queue is ready."""
    if queue.oldest_ready_at is None:
        return 0.0
    return max((queues.now - queue.oldest_ready_at).total_seconds(), 0.0)


def _of_workers(figures: Figures) -> Iterator[Family]:
    workers = figures.workers
    by_state = {"alive": workers.alive, "silent": workers.silent, "draining": workers.draining}
    yield _gauge(
        "workers",
        "Registered workers. A draining worker is also alive.",
        (Sample(number, {"state": state}) for state, number in by_state.items()),
    )
    free = max(workers.slots - workers.slots_busy - workers.slots_lost, 0)
    slots = {"busy": workers.slots_busy, "free": free, "lost": workers.slots_lost}
    yield _gauge(
        "worker_slots", "Slots of live workers.", (Sample(number, {"state": state}) for state, number in slots.items())
    )
    yield _gauge("outcomes_unwritten", "Ended jobs that no worker could record yet.", [Sample(workers.unwritten)])
    yield _gauge("stalled_jobs", "Running jobs without a live worker, up to 10,000.", [Sample(figures.stalled.number)])
    yield _gauge(
        "promotion_lag_seconds",
        "Age of the oldest due time that no worker has acted on.",
        [Sample(figures.overdue_seconds)],
    )


def _of_upkeep(upkeep: UpkeepFigures) -> Iterator[Family]:
    yield _gauge(
        "orphan_locks",
        "Locks that jobs wait for and no job has, among the first 10,000 waiting jobs.",
        [Sample(upkeep.orphan_locks.number)],
    )
    yield _gauge(
        "xmin_age",
        "Transactions since the oldest one that keeps vacuum from removing dead rows.",
        [Sample(upkeep.xmin_age)],
    )
    yield _gauge(
        "table_bytes",
        "Size of a table with its indexes, in bytes.",
        (Sample(size, {"table": table}) for table, size in upkeep.table_bytes.items()),
    )
    yield _gauge(
        "schema_info",
        "1, with the newest revision of the schema. Absent in a Django project.",
        [] if upkeep.revision is None else [Sample(1, {"revision": upkeep.revision})],
    )


def _with_bounded_labels(totals: Iterable[RunTotals]) -> list[RunTotals]:
    """Return the totals with a bounded number of queues and tasks. The pairs with the fewest runs are added up."""
    sums: dict[tuple[str, str], int] = {}
    totals = list(totals)
    for one in totals:
        sums[one.queue, one.task] = sums.get((one.queue, one.task), 0) + one.count
    kept = set(sorted(sums, key=lambda pair: (-sums[pair], pair))[:MOST_TASKS])
    return [
        one if (one.queue, one.task) in kept else dataclasses.replace(one, queue=OTHER, task=OTHER) for one in totals
    ]


def _of_runs(runs: Iterable[RunTotals]) -> Iterator[Family]:
    counts: dict[tuple[str, str, str], int] = {}
    durations: dict[tuple[str, str], _Histogram] = {}
    waits: dict[str, _Histogram] = {}
    for one in runs:
        key = (one.queue, one.task, one.outcome)
        counts[key] = counts.get(key, 0) + one.count
        durations.setdefault((one.queue, one.task), _Histogram()).add(one.run_seconds, one.run_histogram)
        waits.setdefault(one.queue, _Histogram()).add(one.wait_seconds, one.wait_histogram)
    yield Family(
        _PREFIX + "jobs",
        "counter",
        "Ended runs by their outcome. A run that leads to a retry has the outcome retried.",
        tuple(
            Sample(number, {"queue": queue, "task": task, "outcome": outcome}, "_total")
            for (queue, task, outcome), number in counts.items()
        ),
    )
    yield Family(
        _PREFIX + "job_duration_seconds",
        "histogram",
        "Duration of runs.",
        tuple(
            sample
            for (queue, task), histogram in durations.items()
            for sample in histogram.samples({"queue": queue, "task": task})
        ),
    )
    yield Family(
        _PREFIX + "job_wait_seconds",
        "histogram",
        "Time between ready and started, of some of the runs.",
        tuple(sample for queue, histogram in waits.items() for sample in histogram.samples({"queue": queue})),
    )


class _Histogram:
    def __init__(self) -> None:
        self._seconds = 0.0
        self._buckets = [0] * BUCKETS

    def add(self, seconds: float, buckets: Iterable[int]) -> None:
        self._seconds += seconds
        self._buckets = [one + other for one, other in zip(self._buckets, buckets, strict=True)]

    def samples(self, labels: dict[str, str]) -> Iterator[Sample]:
        """Yield the buckets as Prometheus counts them, each with all shorter ones."""
        sums = list(itertools.accumulate(self._buckets))
        for bound, number in zip([*map(repr, BOUNDS), _INFINITY], sums, strict=True):
            yield Sample(number, labels | {"le": bound}, "_bucket")
        yield Sample(self._seconds, labels, "_sum")
        yield Sample(sums[-1], labels, "_count")


def _truncated(queues: Queues, figures: Figures, runs: Iterable[RunTotals]) -> Family:
    is_cut = {"queues": queues.is_more, "tasks": figures.is_more or any(one.task == OTHER for one in runs)}
    return _gauge(
        "metrics_truncated",
        "1 if there are more queues or tasks than have series of their own.",
        (Sample(float(value), {"what": what}) for what, value in is_cut.items()),
    )
