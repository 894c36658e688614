"""The reference on the site has what a program calls. It needs `make docs`."""

from __future__ import annotations

import pytest

from procrastinate.inspection import Inspect
from procrastinate.manager import JobManager
from procrastinate.manager.worker_calls import WorkerOperations
from tests.documentation.blocks import ROOT
from tests.missing import is_bare, missing

_SITE = ROOT / "build" / "site"


@pytest.mark.parametrize("documented", [JobManager, Inspect])
def test_the_reference_has_every_public_method(documented: type) -> None:
    if is_bare() or not (_SITE / "genindex.html").exists():
        missing("the site is not built: make docs", "PROCRASTINATE_REQUIRE_SITE")
    pages = "".join((_SITE / "reference" / f"{page}.html").read_text() for page in ("queue", "watch"))
    names = [name for name in dir(documented) if not name.startswith("_") and not hasattr(WorkerOperations, name)]
    assert names
    assert [name for name in names if f'.{documented.__name__}.{name}"' not in pages] == []
