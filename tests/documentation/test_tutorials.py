"""The tutorials, from an empty folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.documentation.instead import INSTALLATION, IS_LONG
from tests.documentation.reader import Reader

pytestmark = pytest.mark.timeout(INSTALLATION * 2 if IS_LONG else 300)

TUTORIALS = [
    "docs/tutorial-django-tasks.md",
    "docs/tutorial-fastapi.md",
    "docs/tutorial-flask.md",
    "docs/postgresql.md",
]
TOGETHER = ["docs/tutorial-django.md", "docs/tutorial-deployment.md"]
"""The second goes on where the first ends."""


@pytest.mark.parametrize("page", TUTORIALS)
def test_it_works_as_it_says(page: str, new_reader: Callable[[str], Reader]) -> None:
    new_reader(page).follow(page)


def test_the_project_of_django_is_deployed(new_reader: Callable[[str], Reader]) -> None:
    reader = new_reader(TOGETHER[0])
    for page in TOGETHER:
        reader.follow(page)
