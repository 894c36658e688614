"""A notification to oneself, which shows whether notifications arrive."""

from __future__ import annotations

import sqlalchemy as sa

PROBE_CHANNEL = "procrastinate_probe"
_SEND = sa.select(sa.func.pg_notify(sa.literal_column(f"'{PROBE_CHANNEL}'"), sa.bindparam("payload", type_=sa.Text())))


def send_probe(connection: sa.Connection, payload: str) -> None:
    """Send a notification on :data:`PROBE_CHANNEL`."""
    connection.execute(_SEND, {"payload": payload})
