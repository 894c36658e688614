"""Turn text that others wrote into text for a log, a page or a terminal. Private."""

from __future__ import annotations
