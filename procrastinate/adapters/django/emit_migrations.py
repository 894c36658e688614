"""Writes Django's migrations from the Alembic revisions: ``python -m procrastinate.adapters.django.emit_migrations``.

Run it after adding a revision or changing the models. With ``--check`` it writes nothing and fails if a file would
change. Each revision ``pNNNN_name`` becomes the migration ``1NNN_name``, because databases of Procrastinate 3.x have
recorded migrations ``0001`` to ``0041``, which ``1000`` replaces. A migration contains the revision's SQL unchanged, so
that you can read it in the file and in ``manage.py sqlmigrate``, and the revision's changes to the models.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import io
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

from alembic import command
from alembic.script import Script, ScriptDirectory
from django.apps import apps
from django.db.migrations import Migration
from django.db.migrations.operations import AddField, AlterField, CreateModel, RemoveField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter, OperationWriter

from procrastinate.adapters.django.migration_operations import RunPostgreSQL
from procrastinate.alembic.revisions import alembic_config
from procrastinate.alembic.settings import VERSION_TABLE

APP_LABEL = "procrastinate"
PACKAGE = "procrastinate.adapters.django.migrations"
DIRECTORY = pathlib.Path(__file__).parent / "migrations"

_REPLACES = "    replaces = [('procrastinate', name) for name in MIGRATIONS_OF_3X]\n"

_DROP_VERSIONS = f"DROP TABLE {VERSION_TABLE};"

_TEMPLATE = """\
# Generated from the Alembic revision {revision}: do not edit.
# Regenerate: python -m procrastinate.adapters.django.emit_migrations
# ruff: noqa
# fmt: off
{imports}

FORWARD = [
{forward},
]

BACKWARD = [
{backward},
]


class Migration(migrations.Migration):
    initial = {initial}
    atomic = False  # the operation opens a transaction, unless it upgrades tables of 3.x
    dependencies = {dependencies}
{replaces}    operations = [
        RunPostgreSQL(FORWARD, BACKWARD, revision={revision!r}),
{operations}
    ]
"""


class _Statements(io.StringIO):
    """Collects Alembic's output, one statement at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.list: list[str] = []

    def write(self, text: str, /) -> int:
        statement = text.strip()
        if not all(line.startswith("--") for line in statement.splitlines()):  # Alembic's own comments
            self.list.append(statement)
        return len(text)


def _statements(run: Callable[..., None], start: str, end: str) -> list[str]:
    config = alembic_config()
    collected = _Statements()
    config.output_buffer = collected
    config.attributes["transactional"] = False
    run(config, f"{start}:{end}", sql=True)
    return collected.list


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Emitted:
    """The name and text of a migration."""

    name: str
    text: str

    @property
    def path(self) -> pathlib.Path:
        """The path of its file."""
        return DIRECTORY / f"{self.name}.py"


def emit() -> Iterator[Emitted]:
    """Yield all migrations, oldest first.

    The model operations of a migration are read from its existing file. The newest migration instead gets all
    differences between the earlier migrations and today's models.
    """
    revisions = list(reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions())))
    state = ProjectState()
    previous: str | None = None
    for revision in revisions:
        name = _name(revision)
        newest = revision is revisions[-1]
        operations = list(_model_operations(state)) if newest else _existing_model_operations(name)
        for operation in operations:
            operation.state_forwards(APP_LABEL, state)
        yield Emitted(name=name, text=_migration_text(revision, previous, operations))
        previous = name


def _name(revision: Script) -> str:
    match = re.fullmatch(r"p(\d+)_(\w+)", pathlib.Path(revision.path).stem)
    assert match is not None, f"{revision.path} is not called pNNNN_name.py"
    return f"{1000 + int(match[1])}_{match[2]}"


def _existing_model_operations(name: str) -> list[Operation]:
    migration: type[Migration] = importlib.import_module(f"{PACKAGE}.{name}").Migration
    return [operation for operation in migration.operations if not isinstance(operation, RunPostgreSQL)]


def _model_operations(state: ProjectState) -> Iterator[Operation]:
    """Yield the operations from a state to the models. Django's autodetector ignores fields of unmanaged models."""
    for model in apps.get_app_config(APP_LABEL).get_models():
        new = ModelState.from_model(model)
        old = state.models.get((APP_LABEL, new.name_lower))
        if old is None:
            options = {
                name: value for name, value in new.options.items() if value not in (False, []) or name == "managed"
            }
            yield CreateModel(new.name, list(new.fields.items()), options=options, bases=new.bases)
        else:
            yield from _field_operations(old, new)


def _field_operations(old: ModelState, new: ModelState) -> Iterator[Operation]:
    for name in old.fields.keys() - new.fields.keys():
        yield RemoveField(new.name_lower, name)
    for name, field in new.fields.items():
        if name not in old.fields:
            yield AddField(new.name_lower, name, field)
        elif MigrationWriter.serialize(old.fields[name]) != MigrationWriter.serialize(field):
            yield AlterField(new.name_lower, name, field)


def _migration_text(revision: Script, previous: str | None, operations: list[Operation]) -> str:
    down = str(revision.down_revision) if revision.down_revision else None
    forward = _statements(command.upgrade, down or "base", revision.revision)
    backward = _statements(command.downgrade, revision.revision, down or "base")
    if down is None and backward[-1] != _DROP_VERSIONS:  # Alembic before 1.19 writes it itself
        backward.append(_DROP_VERSIONS)
    written = [OperationWriter(operation, indentation=2).serialize() for operation in operations]
    imports = {"from django.db import migrations", f"from {RunPostgreSQL.__module__} import {RunPostgreSQL.__name__}"}
    if previous is None:
        imports.add("from procrastinate.adapters.django.migrations_of_3x import MIGRATIONS_OF_3X")
    imports = imports.union(*(needed for _, needed in written))
    return _TEMPLATE.format(
        revision=revision.revision,
        imports="\n".join(sorted(imports, key=lambda line: (line.split()[1], line))),
        forward=_sql_literals(forward),
        backward=_sql_literals(backward),
        initial=previous is None,
        replaces=_REPLACES if previous is None else "",
        dependencies=[(APP_LABEL, previous)] if previous else [],
        operations="\n".join(text for text, _ in written),
    )


def _sql_literals(statements: list[str]) -> str:
    """Write statements flush left: the server stores a function's text as written, and it must equal Alembic's."""
    without_trailing_blanks = (re.sub(r" +$", "", statement, flags=re.MULTILINE) for statement in statements)
    return ",\n".join(f'r"""{statement}"""' for statement in without_trailing_blanks)


def main() -> int:
    """Write the migrations, or only compare them with ``--check``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    arguments = parser.parse_args()
    outdated = [one for one in emit() if not one.path.exists() or one.path.read_text() != one.text]
    for one in outdated:
        if not arguments.check:
            one.path.write_text(one.text)
        print(f"{'outdated' if arguments.check else 'written'}: {one.path.name}")
    return 1 if arguments.check and outdated else 0


def _set_up_django() -> None:
    import django
    from django.conf import settings

    if not settings.configured:
        postgresql = {"ENGINE": "django.db.backends.postgresql", "NAME": "never_connected_to"}
        settings.configure(INSTALLED_APPS=["procrastinate.adapters.django"], DATABASES={"default": postgresql})
    django.setup()


if __name__ == "__main__":
    _set_up_django()
    sys.exit(main())
