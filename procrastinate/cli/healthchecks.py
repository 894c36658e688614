"""``procrastinate healthchecks``."""

from __future__ import annotations

import argparse

from procrastinate.app import App
from procrastinate.console import write


def healthchecks_command(app: App, arguments: argparse.Namespace | None = None) -> None:
    """Check the app and its database, and print a line for each successful check.

    Raises
    ------
    ConnectorException
        The database cannot be reached, or its schema is missing, outdated, or from Procrastinate 3.x.
    """
    app.perform_import_paths()
    write("App configuration: OK")
    with app.open():
        app.check_connection()
        write("DB connection: OK")
        app.schema_manager.check_schema()
        write("Found procrastinate_jobs table: OK")
