"""Statements that a worker rarely needs are built when they are first used: building them takes time at each start."""

from __future__ import annotations

import subprocess
import sys

import pytest

RARE = [
    ("rescue", "_rescue_orphaned"),
    ("rescue", "_return_unknown"),
    ("rescue", "_first_orphaned"),
    ("rescue", "_first_unknown"),
    ("finish", "_retry_statement"),
    ("fetch", "_ready_but_some"),
    ("fetch", "_fetch_but_some"),
    ("promote", "_promote_due_by"),
    ("promote", "_promote_but_some"),
    ("promote", "_promote_with_pauses"),
]


@pytest.mark.parametrize(("module", "builder"), RARE)
def test_an_import_builds_no_rare_statement(module: str, builder: str) -> None:
    script = f"from procrastinate.core import {module}; print({module}.{builder}.cache_info().misses)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
