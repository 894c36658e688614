"""Pagination of a table that may have millions of rows."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
else:
    _Paginator = Paginator

LIMIT = 10_000


class BoundedPaginator(_Paginator):
    """Paginator that counts and shows at most :data:`LIMIT` rows: a full count reads the whole table for every page."""

    limit = LIMIT

    @functools.cached_property
    def count(self) -> int:
        """The number of rows on all pages."""
        return min(self._bounded_count, self.limit)

    @property
    def is_bounded(self) -> bool:
        """True if there are more rows than the pages show."""
        return self._bounded_count > self.limit

    @functools.cached_property
    def _bounded_count(self) -> int:
        # Keep the order of the list, which is an index's. Without an order, PostgreSQL would search for the first rows
        # in the physical order of the table.
        rows: Any = self.object_list
        return int(rows[: self.limit + 1].count())
