"""A release against the schema of the one before: it says at its start what to run. For every revision there is."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from procrastinate import exceptions
from procrastinate.alembic import revisions, upgrades
from procrastinate.app import App

_SCRIPT = ScriptDirectory.from_config(revisions.alembic_config())
# Of the first one, bare tables, there is no release.
OLDER = [revision.revision for revision in _SCRIPT.walk_revisions()][1:-1]


@pytest.mark.parametrize("revision", OLDER)
async def test_a_worker_on_an_older_schema_says_what_to_run(empty_database_url: str, revision: str) -> None:
    """It takes no job before it can record its outcome; once the schema is applied, it runs what was deferred."""
    engine = sa.create_engine(empty_database_url)
    with engine.begin() as connection:
        upgrades.upgrade(connection, revision)
    engine.dispose()
    app = App(connector=empty_database_url)
    ran = []
    app.task(name="task")(lambda: ran.append(True))
    async with app.open_async():
        await app.configure_task("task").defer_async()
        with pytest.raises(exceptions.SchemaNotApplied, match="schema --apply"):
            await app.run_worker_async(wait=False, install_signal_handlers=False)
        assert ran == []
        await app.schema_manager.apply_schema_async()
        await app.run_worker_async(wait=False, install_signal_handlers=False)
    assert ran == [True]
