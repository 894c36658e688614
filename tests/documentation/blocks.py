"""The blocks of code in a page, and the commands in them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import textwrap
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)
_FENCE = re.compile(r"^ *```", re.MULTILINE)
_FILE = re.compile(r"# (?P<path>/?(?:[\w.-]+/)*(?:[\w-]*\.\w+|Dockerfile))(?P<at_the_end> \(at the end\))?\n")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of code.

    ``line`` is that of its first line of code, from 1. ``path`` is the file that its first line names, if it names one;
    ``at_the_end`` says that it is added to that file.
    """

    page: str
    line: int
    language: str
    text: str
    path: str | None = None
    at_the_end: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines that are shown as printed by it."""

    block: Block
    text: str
    output: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block.page}:{self.block.line}: $ {self.text}"


def pages() -> list[str]:
    """The pages whose blocks are tried: the README and the site's."""
    found = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "howto").glob("*.md")]
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in found)]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text()
    found = [_block(page, text, match) for match in _BLOCK.finditer(text)]
    assert len(found) * 2 == len(_FENCE.findall(text)), f"A block of {page} does not end, or is indented otherwise"
    return found


def _block(page: str, text: str, match: re.Match[str]) -> Block:
    code = textwrap.dedent(match["text"])
    file = _FILE.match(code)
    return Block(
        page=page,
        line=text.count("\n", 0, match.start("text")) + 1,
        language=match["language"].strip(),
        text=code,
        path=file["path"] if file else None,
        at_the_end=bool(file and file["at_the_end"]),
    )


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a console block: a line that begins with ``$``, or what a backslash continues."""
    lines = block.text.replace("\\\n", "").splitlines()
    assert block.text.startswith("$ "), f"{block} begins with no command"
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        output = [line for line in lines[start + 1 : end] if line.strip()]
        yield Command(block=block, text=_without_comment(lines[start][2:]), output=tuple(output))


def _without_comment(command: str) -> str:
    return re.sub(r"\s+#\s.*$", "", command).strip()
