"""What a fault did: to be asserted, and to be shown in the table of docs/reliability.md."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable

BEGIN = "<!-- table of faults: written by `make test-faults` -->"
END = "<!-- end of the table of faults -->"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """How the jobs came through a fault.

    Parameters
    ----------
    recovered:
        Jobs that ended as they should have.
    again:
        Jobs that were started more than once: what at-least-once allows when a worker dies, and nothing else.
    doubled:
        Jobs whose end was recorded more than once, or that were started again after it. Never allowed.
    """

    jobs: int
    recovered: int
    again: int
    doubled: int
    seconds: float

    def check(self, *, may_run_again: bool) -> None:
        """Everything recovered, nothing doubled."""
        assert self.jobs > 0, self
        assert self.recovered == self.jobs, self
        assert self.doubled == 0, self
        assert may_run_again or self.again == 0, self


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table."""

    section: int
    fault: str
    verdict: Verdict

    def as_json(self) -> str:
        """One line of the results."""
        return json.dumps({"section": self.section, "fault": self.fault, **dataclasses.asdict(self.verdict)})


def read_rows(results: pathlib.Path) -> list[Row]:
    """The newest row of each fault, in the order of the table."""
    rows: dict[str, Row] = {}
    for line in results.read_text().splitlines():
        values = json.loads(line)
        row = Row(values.pop("section"), values.pop("fault"), Verdict(**values))
        rows[row.fault] = row
    return sorted(rows.values(), key=lambda row: (row.section, row.fault))


def markdown(rows: Iterable[Row]) -> str:
    """The table."""
    lines = ["| fault | jobs | recovered | run again | doubled | seconds |", "|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        one = row.verdict
        recovered = f"{one.recovered / one.jobs:.0%}" if one.recovered == one.jobs else f"**{one.recovered}**"
        lines.append(
            f"| {row.fault} | {one.jobs:,} | {recovered} | {one.again:,} | {one.doubled:,} | {one.seconds:.0f} |"
        )
    return "\n".join(lines)


def missing_rows(text: str, rows: Iterable[Row]) -> set[str]:
    """The faults in a document's table that these rows do not have."""
    _, _, rest = text.partition(BEGIN)
    table, _, _ = rest.partition(END)
    faults = [line.split("|")[1].strip() for line in table.strip().splitlines()[2:]]
    return set(faults) - {row.fault for row in rows}


def replace_table(text: str, table: str) -> str:
    """A document with the table between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, "The document has no place for the table"
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
