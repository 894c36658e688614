"""All cases, in the order in which they run."""

from benchmarks.case import Case
from benchmarks.cases.backlogs import BACKLOG_CASES
from benchmarks.cases.defers import DEFERS
from benchmarks.cases.drains import DRAINS
from benchmarks.cases.fleet import FLEETS
from benchmarks.cases.held import HELD
from benchmarks.cases.housekeeping import HOUSEKEEPING
from benchmarks.cases.latency import LATENCY
from benchmarks.cases.limits import LIMITS
from benchmarks.cases.lines import LINES
from benchmarks.cases.low_load import LOW_LOAD
from benchmarks.cases.one_shot import ONE_SHOT
from benchmarks.cases.processes import PROCESSES
from benchmarks.cases.soak import SOAK
from benchmarks.cases.unique import UNIQUE
from benchmarks.cases.workflows import WORKFLOWS
from benchmarks.cases.writers import WRITERS
from benchmarks.cases.writers_and_worker import WRITERS_AND_WORKER

CASES: tuple[Case, ...] = (
    *DRAINS,
    *DEFERS,
    *UNIQUE,
    *WRITERS,
    *WRITERS_AND_WORKER,
    *LATENCY,
    *LOW_LOAD,
    *FLEETS,
    *ONE_SHOT,
    *PROCESSES,
    *BACKLOG_CASES,
    *HELD,
    *LIMITS,
    *LINES,
    *HOUSEKEEPING,
    *WORKFLOWS,
    *SOAK,
)
