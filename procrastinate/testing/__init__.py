"""What users need to test their tasks without a database."""

from __future__ import annotations

from procrastinate.testing.connector import InMemoryConnector

__all__ = ["InMemoryConnector"]
