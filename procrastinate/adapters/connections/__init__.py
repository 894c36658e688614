"""Run operations on connections of PostgreSQL; both adapters stand on this. Private."""

from __future__ import annotations

from procrastinate._extras import needs_libpq

with needs_libpq():
    import psycopg as psycopg
