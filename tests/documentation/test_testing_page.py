"""The files that the pages on testing show, in new projects: their tests pass."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import pytest

from tests.documentation.blocks import Block, blocks_of
from tests.documentation.reader import Reader

PAGE = "docs/testing.md"
PAGES = (PAGE, "docs/testing-sqlalchemy.md")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
FILES = {block.path: block for block in BLOCKS if block.path}
SHOP = [path for path in FILES if path.startswith("shop/")]
BOOKSHOP = [path for path in FILES if "bookshop" in path or path == "conftest.py"]
IN_MEMORY = ["test_in_memory.py"]

NewReader = Callable[[str], Reader]


@pytest.fixture
def reader(new_reader: NewReader) -> Iterator[Reader]:
    """An empty folder, and an empty database."""
    reader = new_reader(PAGE)
    yield reader
    reader.finish()


def write(reader: Reader, paths: list[str]) -> None:
    """Write files of the page."""
    for path in paths:
        reader.read(FILES[path])


def write_own(reader: Reader, path: str, text: str, *, at_the_end: bool = False) -> None:
    """Write a file that is not in the page."""
    reader.read(Block(page="", line=1, language="python", text=text, path=path, at_the_end=at_the_end))


def run_pytest(reader: Reader, *options: str) -> str:
    """Run pytest; it must skip nothing."""
    printed = reader.shell.run(shlex.join(["python", "-m", "pytest", "-q", *options]))
    assert " skipped" not in printed
    return printed


def test_every_block_is_a_file_that_is_tried() -> None:
    code = [block for block in BLOCKS if block.language != "text"]
    assert len(code) == len(FILES)
    assert sorted([*SHOP, *BOOKSHOP, *IN_MEMORY]) == sorted(FILES)


def test_the_tests_of_a_django_project(reader: Reader) -> None:
    reader.shell.run("django-admin startproject mysite . && python manage.py startapp shop")
    database = reader.url.partition("?")[0].rpartition("/")[2]
    settings = (
        'INSTALLED_APPS += ["procrastinate.contrib.django", "shop"]\n'
        f'DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": "{database}"}}}}\n'
    )
    write_own(reader, "mysite/settings.py", settings, at_the_end=True)
    write(reader, SHOP)
    assert "Ran 5 tests" in reader.shell.run("python manage.py test --noinput --pattern 'tests*.py'")
    reader.shell.run("export DJANGO_SETTINGS_MODULE=mysite.settings")
    assert "1 passed" in run_pytest(reader, "shop/test_orders.py")


def test_the_tests_of_a_program_on_sqlalchemy(reader: Reader) -> None:
    write(reader, BOOKSHOP)
    assert "4 passed" in run_pytest(reader, "-p", "no:django", "-o", "asyncio_default_fixture_loop_scope=function")


def test_tests_without_a_database(reader: Reader) -> None:
    write(reader, IN_MEMORY)
    assert "2 passed" in run_pytest(reader, "-p", "no:django")


def test_a_project_that_does_not_use_the_plugin_imports_nothing(reader: Reader) -> None:
    write_own(
        reader,
        "test_nothing.py",
        "import sys\n\n\ndef test_nothing(request):\n"
        "    assert request.config.pluginmanager.has_plugin('procrastinate')\n"
        "    names = ('procrastinate', 'sqlalchemy', 'psycopg', 'asyncio.events', 'django')\n"
        "    assert [name for name in names if name in sys.modules] == []\n",
    )
    options = ["-p", "no:django", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:xdist", "-p", "no:timeout"]
    run_pytest(reader, *options)


@pytest.mark.parametrize("fixture", ["procrastinate_jobs", "procrastinate_worker"])
def test_a_project_without_an_app_is_told_how_to_name_it(reader: Reader, fixture: str) -> None:
    write_own(reader, "test_it.py", f"def test_it({fixture}): pass\n")
    with pytest.raises(AssertionError, match="Set procrastinate_app in pytest's ini file, or override the fixture"):
        run_pytest(reader, "-p", "no:django")
