"""A list of parameters stands once in a query. A second copy, in a subquery, multiplies the rows that it joins.

SQLAlchemy does not correlate a subquery in FROM by itself. It adds the list to the subquery, without a word.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from procrastinate import core

_LIST = re.compile(r"unnest\(CAST\(%\(.*? AS (\w+)\(")


def _queries() -> Iterator[tuple[str, sa.Select[Any]]]:
    """Yield the queries of core: constants, values of constant dicts, and what functions without parameters build."""
    for found in pkgutil.walk_packages(core.__path__, f"{core.__name__}."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if hasattr(value, "cache_info") and not inspect.signature(value).parameters:
                value = value()
            for part, query in (value if isinstance(value, dict) else {"": value}).items():
                if isinstance(query, sa.Select):
                    yield f"{found.name}.{name}{part}", query


QUERIES = dict(_queries())


@pytest.mark.parametrize("name", QUERIES)
def test_a_list_of_parameters_stands_once_in_a_query(name: str) -> None:
    text = str(QUERIES[name].compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    lists = Counter(_LIST.findall(text))
    assert set(lists.values()) <= {1}


def test_the_queries_of_core_are_found() -> None:
    assert "procrastinate.core.rates._READ_ROOM" in QUERIES
    assert any(name.startswith("procrastinate.core.lines._READ_KEYS") for name in QUERIES)
    assert len(QUERIES) > 50
