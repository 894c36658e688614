"""Workflows: one step, many steps and one step, and steps one after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil

from benchmarks.bench import Bench
from benchmarks.case import Case, Contender
from benchmarks.cases.checks import empty_queue, run_program
from benchmarks.cases.held import open_transaction
from benchmarks.environments import CannotInstall
from benchmarks.results import CheckFailed, Metrics
from benchmarks.systems import CELERY, CHANCY, OURS, System

SMALL, LARGE = 1_000, 10_000
_CHAIN = 200


@dataclasses.dataclass(frozen=True)
class OneWorkflow:
    """A workflow of no-ops, from before it is sent until its last step has run. The worker is up by then.

    Parameters
    ----------
    held:
        If true, a transaction with an old snapshot is open, so that vacuum removes no dead row.
    """

    system: System
    shape: str
    size: int
    held: bool = False

    def __call__(self, bench: Bench) -> Metrics:
        if self.system is CELERY and shutil.which("redis-server") is None:
            raise CannotInstall("redis-server is not installed (Debian: apt install redis-server)")
        with contextlib.ExitStack() as stack:
            database = stack.enter_context(bench.server.copy(empty_queue(bench, OURS)))
            if self.held:
                stack.enter_context(open_transaction(database))
            report = run_program(bench, self.system, "workflow", database, shape=self.shape, size=self.size)
        steps = self.size + 2 if self.shape == "chord" else self.size
        if report["ran"] != steps or report["doubled"]:
            raise CheckFailed(f"of {steps} steps {report['ran']} ran, {report['doubled']} of them more than once")
        return {"ms/step": report["seconds"] * 1000 / steps, "s": report["seconds"]}


def contender(system: System, size: int) -> str:
    """Return the label of a system with a workflow of that many parallel steps."""
    return f"{system.label}, {size:,}"


WORKFLOWS = (
    Case(
        "chord",
        f"A workflow of 1 step, {SMALL:,} or {LARGE:,} steps side by side, and 1 step",
        tuple(
            Contender(contender(system, size), OneWorkflow(system, "chord", size))
            for size, systems in ((SMALL, (OURS, CELERY, CHANCY)), (LARGE, (OURS, CELERY)))
            for system in systems
        ),
    ),
    Case(
        "chain",
        f"A workflow of {_CHAIN} steps, one after the other",
        tuple(Contender(system.label, OneWorkflow(system, "chain", _CHAIN)) for system in (OURS, CELERY, CHANCY)),
    ),
    Case(
        "workflow_held",
        "The same workflows, and a chain of ten times as many steps, while an old snapshot is open",
        (
            *(Contender(f"chord, {size:,}", OneWorkflow(OURS, "chord", size, held=True)) for size in (SMALL, LARGE)),
            *(
                Contender(f"chain, {size:,}", OneWorkflow(OURS, "chain", size, held=True))
                for size in (_CHAIN, 10 * _CHAIN)
            ),
        ),
    ),
)
