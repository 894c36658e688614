"""``procrastinate healthchecks``."""

from __future__ import annotations

import argparse

from procrastinate._text.terminal import write
from procrastinate.app import App
from procrastinate.cli.waits import database_awaited


def healthchecks_command(app: App, arguments: argparse.Namespace | None = None) -> None:
    """Check the app and its database, and print a line for each successful check.

    Raises
    ------
    ConnectorException
        The database cannot be reached, or its schema is missing, outdated, or from Procrastinate 3.x.
    """
    app.perform_import_paths()
    write("App configuration: OK")
    with database_awaited(), app.open():
        app.check_connection()
        write("DB connection: OK")
        app.schema_manager.check_schema()
        write("Found procrastinate_jobs table: OK")
