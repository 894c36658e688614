"""Runs the Python blocks of a page that are no files, one after the other, as one program named ``myapp``.

Called with the file that lists them. What the page takes for granted is in :file:`context.py` beside it. A block may
await at its top level: the statements that do so run in one event loop, the others outside of it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import pathlib
import sys
import types
from typing import Any


def main(listed: pathlib.Path) -> None:
    """Run the context, then the blocks."""
    program = types.ModuleType("myapp")
    sys.modules["myapp"] = program
    names = vars(program)
    context = listed.parent / "context.py"
    exec(compile(context.read_text(), str(context), "exec"), names)
    with asyncio.Runner() as runner:
        for block in json.loads(listed.read_text()):
            for statement in _statements(block):
                _run(statement, block["place"], names, runner)
        if "at_the_end" in names:
            names["at_the_end"]()


def _statements(block: dict[str, Any]) -> list[ast.stmt]:
    tree = ast.parse(block["text"], block["place"], feature_version=None)
    return [ast.increment_lineno(statement, block["line"] - 1) for statement in tree.body]


def _run(statement: ast.stmt, place: str, names: dict[str, Any], runner: asyncio.Runner) -> None:
    tree = ast.Module([statement], type_ignores=[])
    code = compile(tree, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        runner.run(eval(code, names))
    else:
        exec(code, names)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
