"""The tutorials, from an empty folder; and the commands by which the page on deployment runs what they have made."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable

import pytest

from tests.documentation.blocks import ROOT
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
DEPLOYED = {
    "docs/tutorial-fastapi.md": "docs/howto/deploy-fastapi.md",
    "docs/tutorial-flask.md": "docs/howto/deploy-flask.md",
}
"""The pages that deploy what a tutorial has made."""
_ROW = re.compile(
    r"^\| (?P<framework>\w[\w ]+) \| `(?P<worker>.+?)` \| `(?P<schema>.+?)` \| `(?P<check>.+?)` \|$", re.MULTILINE
)


def commands_of_deployment() -> dict[str, list[str]]:
    """Those of the page on deployment, by the framework: the schema, the check, a worker that ends."""
    rows = _ROW.finditer((ROOT / TOGETHER[1]).read_text())
    return {row["framework"].lower(): [row["schema"], row["check"], f"{row['worker']} --one-shot"] for row in rows}


def commands_after(page: str) -> list[str]:
    """Those for the project of a tutorial."""
    return commands_of_deployment().get(pathlib.PurePath(page).stem.removeprefix("tutorial-"), [])


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_works_as_it_says(page: str, new_reader: Callable[[str], Reader]) -> None:
    reader = new_reader(page)
    reader.follow(page)
    for command in commands_after(page):
        reader.shell.run(command)
    if page in DEPLOYED:
        reader.follow(DEPLOYED[page])


def test_the_project_of_django_is_deployed(new_reader: Callable[[str], Reader]) -> None:
    reader = new_reader(TOGETHER[0])
    for page in TOGETHER:
        reader.follow(page)
    for command in commands_after(TOGETHER[0]):
        reader.shell.run(command)


def test_the_page_on_deployment_has_commands_for_each_framework() -> None:
    assert set(commands_of_deployment()) == {"django", "fastapi", "flask", "no framework"}


def test_the_commands_without_a_framework_work(new_reader: Callable[[str], Reader]) -> None:
    """The context of this page is a program with the app ``myapp.app``."""
    reader = new_reader("docs/deployment.md")
    for command in commands_of_deployment()["no framework"]:
        reader.shell.run(command)
