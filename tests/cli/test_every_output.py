"""The output of every sub-command: plain in a pipe, and on a terminal without the control characters of rows."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

from procrastinate.cli.sub_commands import SUB_COMMANDS
from tests.cli.command import DEADLINE
from tests.cli.hostile_shop import EVIL
from tests.database import Databases

FAILED = "1"
"""The id of the job that has failed, of which the inspecting commands tell."""
CALLS: dict[str, list[str]] = {
    "worker": ["worker", "--one-shot", f"--name={EVIL}", f"--queues=queue {EVIL},nowhere {EVIL}"],
    "dev": ["dev", "--port=0"],
    "defer": ["defer", f"fail {EVIL}", "{}"],
    "defer an unknown task": ["defer", EVIL],
    "schema": ["schema", "--apply"],
    "schema plan": ["schema", "--plan"],
    "healthchecks": ["healthchecks"],
    "healthchecks of a worker": ["healthchecks", f"--worker={EVIL}"],
    "workflow": ["workflow", "1"],
    "shell": ["shell", "list_jobs"],
    "shell queues": ["shell", "list_queues"],
    "shell tasks": ["shell", "list_tasks"],
    "shell locks": ["shell", "list_locks"],
    "shell result": ["shell", "result", FAILED],
    "shell error": ["shell", EVIL],
    "doctor": ["doctor"],
    "check": ["check"],
    "top": ["top"],
    "top once": ["top", "--once"],
    "why": ["why", FAILED],
    "why periodic": ["why", "--periodic", f"yearly {EVIL}"],
    "why not": ["why", "--periodic", EVIL],
    "logs": ["logs", FAILED],
    "stack": ["stack", FAILED],
    "queues": ["queues"],
    "queues pause": ["queues", "pause", f"other {EVIL}", f"--reason={EVIL}"],
    "unique": ["unique", EVIL],
    "retry": ["retry", f"--task=fail {EVIL}", "--json"],
    "cancel": ["cancel", f"--queue=queue {EVIL}", f"--task={EVIL}", "--yes"],
    "dashboard": ["dashboard", "--port=0"],
    "metrics": ["metrics", "--port=0"],
    "limits": ["limits"],
    "limits show": ["limits", "show", f"limit {EVIL}", EVIL],
    "limits set": ["limits", "set", EVIL, "--concurrency=1"],
    "celery-bridge": ["celery-bridge", "--broker=memory://", f"--queue={EVIL}", "--once"],
    "celery-schedule": ["celery-schedule", "tests.cli.hostile_shop.BEAT_SCHEDULE"],
    "an unknown command": [EVIL],
    "an unknown option": ["queues", f"--{EVIL}"],
    "an app that is not there": [f"--app={EVIL}.{EVIL}", "queues"],
}
INTERRUPTED = {"dev": "Starting worker on", "top": "Queues", "dashboard": "http://", "metrics": "http://"}
"""The calls that end at Ctrl-C only, and the text after which it comes. In a pipe, top ends by itself."""
_OWN_CODES = re.compile(r"\x1b\[(?:[0-2]|3[1-4])m|\x1b\[\?(?:1049|25)[hl]|\x1b\[[HKJ]")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def hostile_url(databases: Databases) -> Iterator[str]:
    """A database whose rows hold control characters in every text."""
    url = databases.create_migrated()
    program = "from tests.cli.hostile_shop import fill; fill()"
    subprocess.run([sys.executable, "-c", program], env=_environment(url), check=True, timeout=DEADLINE)
    yield url
    databases.drop(url)


def _environment(url: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    own = {"TESTS_CLI_DATABASE_URL": url, "PROCRASTINATE_APP": "tests.cli.hostile_shop.app", "TERM": "xterm-256color"}
    return {**kept, **own, "PYTHONIOENCODING": "utf-8", **more}


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "procrastinate", *CALLS[name]]


def piped(name: str, url: str) -> str:
    """Return what a call writes to a pipe."""
    return _read(name, _environment(url), subprocess.PIPE)


def on_terminal(name: str, url: str, columns: int = 100, **environment: str) -> str:
    """Return what a call writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    return _read(name, _environment(url, **environment), theirs, ours)


def _read(name: str, environment: dict[str, str], output: int, ours: int | None = None) -> str:
    """Run a call and return its output. Interrupt it after the text that :data:`INTERRUPTED` gives."""
    process = subprocess.Popen(
        _command(name), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        if output == subprocess.PIPE else output
    )  # fmt: skip
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    if ours is None:
        assert process.stdout is not None
        ours = process.stdout.fileno()
    else:
        os.close(output)
    written, awaited = b"", INTERRUPTED.get(name, "")
    with contextlib.suppress(OSError):  # a terminal whose program has ended
        while chunk := os.read(ours, 65_536):
            written += chunk
            if awaited and awaited in written.decode(errors="replace"):
                process.send_signal(signal.SIGINT)
                awaited = ""
    status = process.wait()
    watchdog.cancel()
    assert status != -signal.SIGKILL, f"It did not end: {written!r}"
    if process.stdout is not None:
        process.stdout.close()
    else:
        os.close(ours)
    return written.decode()


def test_every_sub_command_is_among_the_calls() -> None:
    assert {one.name for one in SUB_COMMANDS} <= {words[0] for words in CALLS.values()}


@pytest.mark.parametrize(
    "name", ["shell", "shell queues", "shell result", "logs", "workflow", "queues", "limits", "top"]
)
def test_the_rows_do_hold_control_characters(hostile_url: str, name: str) -> None:
    """The output shows them as escape sequences, so the other tests see what they look for."""
    assert r"\x1b[35mEVIL" in piped(name, hostile_url)


@pytest.mark.parametrize("name", CALLS)
def test_a_pipe_gets_no_control_character(hostile_url: str, name: str) -> None:
    """No colour, no progress bar, no character of a row that a later terminal would obey."""
    written = piped(name, hostile_url)
    assert written, "it says nothing"
    assert [one for one in written if one != "\n" and not one.isprintable()] == []


@pytest.mark.parametrize("name", CALLS)
def test_a_terminal_gets_no_control_character_of_a_row(hostile_url: str, name: str) -> None:
    """What is left without the codes of this project is printable."""
    written = _OWN_CODES.sub("", on_terminal(name, hostile_url))
    assert written, "it says nothing"
    assert [one for one in re.sub(r"\r+\n", "\n", written) if one != "\n" and not one.isprintable()] == []


def test_a_printed_schedule_is_code_on_a_narrow_terminal_too(hostile_url: str) -> None:
    written = on_terminal("celery-schedule", hostile_url, columns=40).replace("\r\n", "\n")
    ast.parse(written.partition("\n1 of ")[0])
    assert "# NOT TRANSLATED: " in written


@pytest.mark.parametrize("name", ["doctor", "top", "an app that is not there", "worker"])
def test_a_terminal_without_colours_gets_none(hostile_url: str, name: str) -> None:
    assert _COLOUR.search(on_terminal(name, hostile_url)), "it has no colour to leave out"
    assert not _COLOUR.search(on_terminal(name, hostile_url, NO_COLOR="1"))
    assert "\x1b" not in on_terminal(name, hostile_url, TERM="dumb")
