"""What docs/alembic.md says, in a project that ``alembic init`` has made: both ways, each on a database of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa

from tests.documentation.blocks import blocks_of
from tests.documentation.reader import Reader

PAGE = "docs/alembic.md"
ENV, SIDE_BY_SIDE, VERSION_LOCATIONS, IN_ONE_HISTORY = blocks_of(PAGE)
"""All blocks of the page."""

NewReader = Callable[[str], Reader]


def test_side_by_side(new_reader: NewReader) -> None:
    reader = _project(new_reader)
    reader.shell.run("alembic revision --autogenerate -m first")
    reader.read(SIDE_BY_SIDE)
    reader.shell.run("alembic check")
    assert {"orders", "procrastinate_jobs", "alembic_version", "procrastinate_alembic_version"} <= _tables(reader)


def test_in_one_history(new_reader: NewReader) -> None:
    reader = _project(new_reader)
    folder = reader.shell.run("procrastinate schema --migrations-path").strip()
    line = VERSION_LOCATIONS.text.replace("/path/to/site-packages/procrastinate/alembic/versions", folder)
    _replace(reader, "alembic.ini", r"(?m)^# version_locations = .*\n", line)
    reader.read(IN_ONE_HISTORY)
    reader.shell.run("alembic check")
    assert {"orders", "procrastinate_jobs", "alembic_version"} <= _tables(reader)
    assert "procrastinate_alembic_version" not in _tables(reader)
    assert len([*(reader.directory / "migrations" / "versions").glob("*.py")]) == 2


def _project(new_reader: NewReader) -> Reader:
    """With the page's first block in its ``env.py``."""
    reader = new_reader(PAGE)
    reader.shell.run("alembic init migrations")
    url = reader.url.replace("%", "%%").replace("\\", r"\\")
    _replace(reader, "alembic.ini", r"(?m)^sqlalchemy\.url = .*$", f"sqlalchemy.url = {url}")
    imports, configure = ENV.text.rsplit("\n\n", 1)
    env = "migrations/env.py"
    _replace(reader, env, r"\A", f"{imports}\nfrom myapp import metadata\n")
    _replace(reader, env, r"(?m)^target_metadata = None$", "target_metadata = metadata")
    _replace(reader, env, r"context\.configure\(\s*connection=.*?\)", configure.strip())
    return reader


def _replace(reader: Reader, path: str, pattern: str, replacement: str) -> None:
    place = reader.directory / path
    text, count = re.subn(
        pattern, lambda _: replacement, place.read_text(), flags=re.DOTALL if "(?m)" not in pattern else 0
    )
    assert count == 1, f"{pattern} is not in {path}"
    place.write_text(text)


def _tables(reader: Reader) -> set[str]:
    engine = sa.create_engine(reader.url, poolclass=sa.NullPool)
    return set(sa.inspect(engine).get_table_names())
