"""Run operations on connections of PostgreSQL; both adapters stand on this. Private."""

from __future__ import annotations
