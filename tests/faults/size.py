"""How much: a shortened round as part of the test suite, or all of it, by ``make test-faults``."""

from __future__ import annotations

import dataclasses
import os

FULL_VARIABLE = "PROCRASTINATE_FAULTS_FULL"
RESULTS_VARIABLE = "PROCRASTINATE_FAULTS_RESULTS"


@dataclasses.dataclass(frozen=True)
class Size:
    """Picks a number for this round."""

    full: bool

    @classmethod
    def of_this_run(cls) -> Size:
        """As the environment says."""
        return cls(full=bool(os.environ.get(FULL_VARIABLE)))

    def pick(self, short: float, full: float) -> float:
        """One of the two."""
        return full if self.full else short

    def count(self, short: int, full: int) -> int:
        """One of the two."""
        return full if self.full else short
