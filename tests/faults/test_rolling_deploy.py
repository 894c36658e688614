"""11. A new release is deployed while the previous one works: first its schema, then its workers, for each
migration.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic.script import Script

from procrastinate.alembic import upgrades
from tests import database
from tests.database import libpq_url
from tests.faults.conftest import Report
from tests.faults.ledger import Ledger, overlaps
from tests.faults.queue import Queue
from tests.faults.release import later_revisions, unpack_release_before
from tests.faults.size import Size
from tests.faults.waiting import until
from tests.faults.worker_process import Fleet, WorkerProcess

REVISIONS = later_revisions()


def migrate(queue: Queue, revision: str) -> None:
    """Migrate the schema to a revision while workers use it."""
    engine = sa.create_engine(queue.url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        upgrades.upgrade(connection, revision)


@pytest.fixture(
    params=[
        REVISIONS[0],
        *(pytest.param(revision, marks=pytest.mark.full_round) for revision in REVISIONS[1:]),
    ],
    ids=lambda revision: revision.revision,
)
def revision(request: pytest.FixtureRequest) -> Script:
    """Return the new migration."""
    script: Script = request.param
    return script


@pytest.fixture
def older_queue(own_databases: database.Databases, ledger: Ledger, revision: Script) -> Iterator[Queue]:
    """Return a queue with the schema of the previous release."""
    url = own_databases.create_empty()
    queue = Queue(url, ledger)
    migrate(queue, str(revision.down_revision))
    yield queue
    queue.close()
    own_databases.drop(url)


def runs_of(queue: Queue, worker: WorkerProcess) -> int:
    """Return the number of jobs that a worker has run."""
    return sum(entry.process == worker.pid and entry.moment == "end" for entry in queue.ledger.entries())


def package_of(worker: WorkerProcess) -> pathlib.Path:
    """Return the folder of a worker's package."""
    (record,) = (record for record in worker.records() if record["action"] == "package")
    return pathlib.Path(record["message"])


def defer_some(queue: Queue, numbers: range) -> None:
    """Defer jobs with locks, jobs without, and some that fail once."""
    for number in numbers:
        if number % 5 == 0:
            queue.defer("fail_once", number)
        else:
            queue.defer("note", number, lock=f"lock {number % 7}" if number % 5 < 3 else None, seconds=0.05)


def test_a_release_is_rolled_out(
    older_queue: Queue,
    fleet: Fleet,
    size: Size,
    report: Report,
    revision: Script,
    tmp_path: pathlib.Path,
) -> None:
    """The new worker names the SQL to run. The old worker goes on during it, and works with the new one afterwards."""
    queue, part, url = older_queue, size.count(20, 200), libpq_url(older_queue.url)
    root = unpack_release_before(revision, tmp_path / "before")
    old = fleet.start_one(url=url, root=root, concurrency=3)
    assert package_of(old).is_relative_to(root)
    queue.start_clock()
    defer_some(queue, range(part))
    done = part
    until(lambda: runs_of(queue, old) > 0, "the old one works in its schema")

    too_early = fleet.start_in_vain(url)
    assert too_early.exit_code != 0
    assert "schema --apply" in too_early.log()

    for newer in dict.fromkeys((revision.revision, "head")):
        migrate(queue, newer)
        so_far = runs_of(queue, old)
        defer_some(queue, range(done, done + part))
        done += part
        until(lambda so_far=so_far: runs_of(queue, old) > so_far, f"the old one works in {newer}")  # type: ignore[misc]
    new = fleet.start_one(url=url, concurrency=3)
    defer_some(queue, range(done, done + part))
    done += part
    queue.is_empty()
    assert runs_of(queue, new) > 0
    assert overlaps(queue.ledger.entries()) == []
    fault = f"Rolling deploy of `{revision.revision}`: both releases at work on the new schema"
    verdict = queue.verdict(done)
    report(11, fault, verdict, may_run_again=True)
    assert verdict.again == done // 5, "those that fail once, and no other"
    fleet.each(lambda worker: worker.stop())
