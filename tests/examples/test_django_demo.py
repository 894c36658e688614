"""``make demo-serve``: what a visitor finds."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import IO

import httpx

ROOT = pathlib.Path(__file__).parents[2]
STATES = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")


def test_the_admin_has_jobs_in_every_state_as_soon_as_its_address_is_printed(tmp_path: pathlib.Path) -> None:
    """Over HTTP, with the password that is printed."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "examples.django_demo", "serve"],
        cwd=tmp_path,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert demo.stdout is not None
        url, password = _printed(demo.stdout)
        with httpx.Client(base_url=url, follow_redirects=True) as visitor:
            _log_in(visitor, password)
            for state in STATES:
                page = visitor.get("procrastinate/procrastinatejob/", params={"status__exact": state})
                assert re.search(r"[1-9]\d* jobs?\b", page.text), state
    finally:
        demo.send_signal(signal.SIGTERM)
        rest, _ = demo.communicate(timeout=60)
    assert "Traceback" not in rest


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def _printed(output: IO[str]) -> tuple[str, str]:
    said = []
    for line in output:
        said.append(line)
        found = re.search(r"Its admin: (\S+) +user: admin +password: (\S+)", line)
        if found:
            return found[1], found[2]
    raise AssertionError("".join(said))


def _log_in(visitor: httpx.Client, password: str) -> None:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get("login/").text)
    assert token
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    assert "Log out" in visitor.post("login/", data=form).text
