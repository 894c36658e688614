"""The output of ``make demo``, and the pages of ``make demo-serve``."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import IO

import httpx
import pytest

ROOT = pathlib.Path(__file__).parents[2]
STATES = ("todo", "doing", "succeeded", "failed", "cancelled", "aborted")
ROWS = {
    "shop.tasks.ask_for_review": (5, 5, 0, 0, 5),
    "shop.tasks.charge_card": (100, 99, 1, 11, 0),
    "shop.tasks.send_receipt": (99, 99, 0, 0, 0),
}
"""The numbers for 100 orders: jobs, succeeded jobs, failed jobs, retries and scheduled jobs. The bank does not answer
every tenth call, and declines every hundredth card."""


@pytest.mark.timeout(240)
def test_the_demo_counts_what_became_of_its_jobs_and_says_how_to_go_on(tmp_path: pathlib.Path) -> None:
    """The periodic task has one job for each tick during the demo."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.django_demo"],
        cwd=tmp_path,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    rows = _rows(done.stdout)
    counted = rows.pop("shop.tasks.count_orders")
    assert counted[0] > 0
    assert counted[2:4] == (0, 0)
    assert rows == ROWS
    assert re.search("10 jobs at once, and at most [1-3] payments: the bank has a limit of 3.", done.stdout)
    assert "A worker was killed (SIGKILL) while it packed a parcel. Another worker packed it again." in done.stdout
    assert "pack_parcel succeeded (runs: 2), hand_over succeeded (runs: 1)." in done.stdout
    assert done.stdout.splitlines()[-1] == "Serve this shop with its dashboard and its admin: make demo-serve"
    assert re.search("^demo-serve:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_admin_has_jobs_in_every_state_as_soon_as_its_address_is_printed(tmp_path: pathlib.Path) -> None:
    """The test logs in over HTTP with the printed password."""
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
            assert "<title>Overview" in visitor.get("procrastinate/procrastinatejob/dashboard/").text
    finally:
        demo.send_signal(signal.SIGTERM)
        rest, _ = demo.communicate(timeout=60)
    assert "Traceback" not in rest


def test_ctrl_c_ends_the_demo_without_a_traceback(tmp_path: pathlib.Path) -> None:
    """At once, while it starts PostgreSQL. A terminal sends the signal to all processes of the demo."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "examples.django_demo"],
        cwd=tmp_path,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    assert "a Django shop" in demo.stdout.readline()
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)
    assert (demo.returncode, "Traceback" in rest) == (130, False), rest


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def _rows(printed: str) -> dict[str, tuple[int, ...]]:
    """Return the numbers of each task's row in the table."""
    lines = [[cell.strip() for cell in re.split("[│┃|]", line)[1:-1]] for line in printed.splitlines()]
    return {cells[0]: tuple(map(int, cells[1:])) for cells in lines if cells and cells[0].startswith("shop.")}


def _printed(output: IO[str]) -> tuple[str, str]:
    said = []
    for line in output:
        said.append(line)
        found = re.search(r"Its admin: +(\S+) +user: admin +password: (\S+)", line)
        if found:
            return found[1], found[2]
    raise AssertionError("".join(said))


def _log_in(visitor: httpx.Client, password: str) -> None:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get("login/").text)
    assert token
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    assert "Log out" in visitor.post("login/", data=form).text
