"""Pages of a table that may have millions of rows."""

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
    """Counts up to :data:`LIMIT` rows, and shows no more: a full count reads the whole table for every page."""

    limit = LIMIT

    @functools.cached_property
    def count(self) -> int:
        """How many rows there are to page through."""
        return min(self._bounded_count, self.limit)

    @property
    def is_bounded(self) -> bool:
        """Whether there are more rows than are shown."""
        return self._bounded_count > self.limit

    @functools.cached_property
    def _bounded_count(self) -> int:
        # In the order of the list, which is that of an index: in none, PostgreSQL would look for the first rows in the
        # order in which the table is stored.
        rows: Any = self.object_list
        return int(rows[: self.limit + 1].count())
