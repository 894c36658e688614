"""Former module of :class:`procrastinate.PsycopgConnector` in 3.x."""

from __future__ import annotations

from procrastinate.adapters.standalone import PsycopgConnector

__all__ = ["PsycopgConnector"]
