"""Read what users give: amounts, times, zones, names. Private."""

from __future__ import annotations
