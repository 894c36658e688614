"""The import path of Procrastinate 3.x. New programs use a connector of :mod:`procrastinate`."""

from __future__ import annotations

from procrastinate.adapters.standalone._legacy import AiopgConnector

__all__ = ["AiopgConnector"]
