"""The rows of the tables of limits, in memory."""

from __future__ import annotations

import dataclasses
import datetime

from procrastinate.core import LimitDefinition, RateTerms
from procrastinate.core.share import LimitTerms


@dataclasses.dataclass(slots=True)
class LimitRow:
    """A row of ``procrastinate_limits``. ``defined`` is ``None`` until a worker has defined the limit."""

    defined: LimitDefinition | None = None
    set_concurrency: int | None = None
    set_total: int | None = None
    set_rates: tuple[RateTerms, ...] = ()
    set_total_rates: tuple[RateTerms, ...] = ()

    @property
    def terms(self) -> LimitTerms:
        """The numbers that hold now."""
        code = self.defined or LimitDefinition(name="")
        return LimitTerms(
            concurrency=code.concurrency if self.set_concurrency is None else self.set_concurrency,
            total=code.total if self.set_total is None else self.set_total,
            rates=self.set_rates or code.rates,
            total_rates=self.set_total_rates or code.total_rates,
            is_fair=code.fair,
        )

    @property
    def is_set(self) -> bool:
        """True if an operator has set one of the numbers."""
        numbers = (self.set_concurrency, self.set_total, self.set_rates or None, self.set_total_rates or None)
        return any(number is not None for number in numbers)

    def set(self, numbers: LimitDefinition) -> None:
        """Let other numbers hold than those of the code."""
        self.set_concurrency = self.set_concurrency if numbers.concurrency is None else numbers.concurrency
        self.set_total = self.set_total if numbers.total is None else numbers.total
        self.set_rates = numbers.rates or self.set_rates
        self.set_total_rates = numbers.total_rates or self.set_total_rates

    def reset(self) -> None:
        """Let the numbers of the code hold again."""
        self.set_concurrency = self.set_total = None
        self.set_rates = self.set_total_rates = ()


@dataclasses.dataclass(frozen=True, slots=True)
class LeftSlot:
    """The slots that a job has left."""

    job_id: int
    queue_name: str
    name: str
    key: str
    weight: int


@dataclasses.dataclass(frozen=True, slots=True)
class StartRow:
    """A row of ``procrastinate_starts``."""

    name: str
    key: str
    at: datetime.datetime
    weight: int
