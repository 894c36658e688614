"""All cases, in the order in which they run."""

from benchmarks.case import Case
from benchmarks.cases.drains import DRAINS

CASES: tuple[Case, ...] = (*DRAINS,)
