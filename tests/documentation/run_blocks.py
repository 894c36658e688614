"""Runs the Python blocks of a page that are no files, one after the other, as one program named ``myapp``.

The argument is the file that lists the blocks. :file:`context.py` next to it sets up what the page assumes. Its
function ``before`` is called with the text of each statement before it runs, and ``at_the_end`` after the last one. A
block may await at its top level. Such statements run in one event loop, and all others run outside of it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import pathlib
import signal
import sys
import threading
import time
import types
from typing import Any


def main(listed: pathlib.Path) -> None:
    """Run the context, then the blocks."""
    program = types.ModuleType("myapp")
    sys.modules["myapp"] = program
    names = vars(program)
    context = listed.parent / "context.py"
    exec(compile(context.read_text(), str(context), "exec"), names)
    threading.Thread(target=_interrupt_workers, daemon=True).start()
    with asyncio.Runner() as runner:
        for block in json.loads(listed.read_text()):
            for statement in _statements(block):
                names.get("before", _nothing)(ast.unparse(statement))
                _run(statement, block["place"], names, runner)
        if "at_the_end" in names:
            names["at_the_end"]()


def _statements(block: dict[str, Any]) -> list[ast.stmt]:
    tree = ast.parse(block["text"], block["place"])
    return [ast.increment_lineno(statement, block["line"] - 1) for statement in tree.body]


_page_is_running = threading.Event()


def _run(statement: ast.stmt, place: str, names: dict[str, Any], runner: asyncio.Runner) -> None:
    tree = ast.Module([statement], type_ignores=[])
    code = compile(tree, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    _page_is_running.set()
    if code.co_flags & inspect.CO_COROUTINE:
        runner.run(eval(code, names))
    else:
        exec(code, names)
    _page_is_running.clear()


def _nothing(_: str) -> None:
    """Do nothing: most contexts need no step before a statement."""


def _interrupt_workers() -> None:
    """Send Ctrl-C to the worker of a page as soon as its signal handler is installed."""
    while _page_is_running.wait():
        handler = signal.getsignal(signal.SIGINT)
        if getattr(handler, "__module__", "") == "procrastinate.worker.processes.signals":
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
