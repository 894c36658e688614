"""Blocks that no reader runs, because another test does."""

from __future__ import annotations

import dataclasses

from tests.documentation.blocks import Block


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """A block, by its page and its first line; the test that proves it, and why it is there."""

    page: str
    first_line: str
    test: str
    reason: str

    def is_about(self, block: Block) -> bool:
        """Whether that is the block."""
        return block.page == self.page and block.text.startswith(self.first_line + "\n")


PROVED_ELSEWHERE = [
    Elsewhere(
        page="docs/deployment.md",
        first_line="-- Defers jobs. It can neither read nor change them, nor write jobs that seem to have run.",
        test="tests/security/test_roles.py",
        reason="A server's databases share its roles: that test gives them names of its own, and tries them",
    ),
]


def is_proved_elsewhere(block: Block) -> bool:
    """Whether the block is listed."""
    return any(listed.is_about(block) for listed in PROVED_ELSEWHERE)
