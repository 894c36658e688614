"""The reference on the site has what a program calls. It needs `make docs`."""

from __future__ import annotations

import re

import pytest

from procrastinate.inspection import Inspect
from procrastinate.manager import JobManager
from procrastinate.manager.worker_calls import WorkerOperations
from tests.documentation.blocks import ROOT
from tests.missing import is_bare, missing

_SITE = ROOT / "build" / "site"


_TYPE = re.compile(r">Type<span class=.colon.>:</span></dt>\s*<dd[^>]*>(.*?)</dd>", re.DOTALL)
_SENTENCE = re.compile(r"\b[A-Za-z]+ [a-z]+")


@pytest.fixture
def site() -> None:
    """Require the built site."""
    if is_bare() or not (_SITE / "genindex.html").exists():
        missing("the site is not built: make docs", "PROCRASTINATE_REQUIRE_SITE")


@pytest.mark.parametrize("documented", [JobManager, Inspect])
@pytest.mark.usefixtures("site")
def test_the_reference_has_every_public_method(documented: type) -> None:
    pages = "".join((_SITE / "reference" / f"{page}.html").read_text() for page in ("queue", "watch"))
    names = [name for name in dir(documented) if not name.startswith("_") and not hasattr(WorkerOperations, name)]
    assert names
    assert [name for name in names if f'.{documented.__name__}.{name}"' not in pages] == []


@pytest.mark.usefixtures("site")
def test_no_sentence_is_shown_as_the_type_of_an_attribute() -> None:
    """Sphinx takes what stands in front of the first colon in the docstring of an attribute for its type."""
    pages = [page.read_text() for page in (_SITE / "reference").glob("*.html")]
    types = [re.sub("<[^>]+>", "", found) for page in pages for found in _TYPE.findall(page)]
    assert types
    assert [one for one in types if _SENTENCE.search(one)] == []
