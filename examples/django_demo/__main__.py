"""``python -m examples.django_demo``: run the shop once. With ``serve``: serve it with its admin."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.django_demo.processes import STATE, free_port, manage, managed, start_database, wait_for_server
from examples.django_demo.report import (
    TaskReport,
    print_reports,
    read_most_at_once,
    read_progress,
    read_reports,
    read_states,
    read_status,
    read_steps,
)

ORDERS = 100
DEADLINE = 45.0
_CALLS_AT_ONCE = 3  # as in shop/tasks.py, which only Django can import
_STATES = {"todo", "doing", "succeeded", "failed", "cancelled", "aborted"}
_WORKER = ("procrastinate", "worker", "--shutdown-graceful-timeout", "1")  # do not wait for stock-taking
console = Console()


def run() -> None:
    """Place orders over HTTP, run a worker until their jobs have ended, and report the outcomes."""
    console.rule("Procrastinate: a Django shop, its jobs and a worker")
    environment = _prepare("shop_demo")
    port = free_port()
    server_log = STATE / "server.log"
    arguments = ("runserver", "--noreload", "--insecure", f"127.0.0.1:{port}")
    with managed(environment, *arguments, log=server_log) as server:
        wait_for_server(f"http://127.0.0.1:{port}/", server, server_log)
        _place_orders(f"http://127.0.0.1:{port}/orders/")
    several = ("procrastinate", "worker", "--concurrency", "10")
    with managed(environment, *several, log=STATE / "worker.log") as worker:
        reports = _watch(environment, worker)
    print_reports(console, reports)
    _check(reports)
    _show_the_limit(environment)
    console.print("The order of a unicorn was rolled back together with its jobs.")
    _kill_a_worker(environment)
    console.print("The dashboard shows all this at /admin/procrastinate/procrastinatejob/dashboard/")
    console.print("Serve this shop with its dashboard and its admin: [bold]make demo-serve[/bold]")


def serve() -> None:
    """Serve the shop and its admin, with a worker, until Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that the child processes end too
    environment = _prepare("shop_serve")
    with console.status("Filling the shop"):
        manage({**environment, "SHOP_LOG_LEVEL": "WARNING"}, "fill_shop")
    password = secrets.token_urlsafe(9)
    manage(
        {**environment, "DJANGO_SUPERUSER_PASSWORD": password},
        *("createsuperuser", "--noinput", "--username", "admin", "--email", "admin@example.com"),
    )
    port = free_port()
    server_log = STATE / "server.log"
    arguments = ("runserver", "--noreload", f"127.0.0.1:{port}")
    with (
        managed(environment, *arguments, log=server_log) as server,
        managed(environment, *_WORKER, log=STATE / "worker.log") as worker,
    ):
        url = f"http://127.0.0.1:{port}/"
        wait_for_server(url, server, server_log)
        _wait_for_every_state(environment, worker)
        console.print(f"Logs: {STATE}. Stop with Ctrl-C.")
        console.print(f"The shop:      {url}")
        console.print(f"Its dashboard: {url}admin/procrastinate/procrastinatejob/dashboard/")
        console.print(f"Its admin:     {url}admin/   user: [bold]admin[/bold]   password: [bold]{password}")
        try:
            server.wait()
        except KeyboardInterrupt:
            console.print("Stopping.")


def _wait_for_every_state(environment: Mapping[str, str], worker: subprocess.Popen[bytes]) -> None:
    """Wait until the admin has jobs in every state to show."""
    deadline = time.monotonic() + DEADLINE
    with console.status("Running the first jobs"), _connect(environment) as connection:
        while time.monotonic() < deadline and worker.poll() is None:
            if read_states(connection) >= _STATES:
                return
            time.sleep(0.1)
    raise SystemExit(f"Some states have no jobs. The worker's log: {STATE / 'worker.log'}")


def _connect(environment: Mapping[str, str]) -> psycopg.Connection:
    host, name = environment["SHOP_DATABASE_HOST"], environment["SHOP_DATABASE"]
    return psycopg.connect(host=host, dbname=name, user="postgres", autocommit=True)


def _prepare(database: str) -> dict[str, str]:
    with console.status("Starting PostgreSQL and migrating"):
        environment = start_database(database)
        manage(environment, "migrate", "--verbosity", "0")
    return environment


def _place_orders(url: str) -> None:
    with _progress() as progress:
        for number in progress.track(range(1, ORDERS + 1), description="Placing orders"):
            assert _post(url, customer=f"Customer {number}", amount="12.50") == 200
    assert _post(url, customer="Eve", amount="1", item="unicorn") == 409


def _post(url: str, **form: str) -> int:
    try:
        with urllib.request.urlopen(url, data=urllib.parse.urlencode(form).encode()) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def _watch(environment: dict[str, str], worker: subprocess.Popen[bytes]) -> list[TaskReport]:
    """Show the progress from the database until all jobs have ended and a periodic job has run."""
    deadline = time.monotonic() + DEADLINE
    with _connect(environment) as connection, _progress() as progress:
        bar = progress.add_task("Running jobs  ", total=None)
        while time.monotonic() < deadline and worker.poll() is None:
            ended, total = read_progress(connection)
            progress.update(bar, completed=ended, total=total)
            reports = read_reports(connection)
            if ended == total and any(report.task_name.endswith("count_orders") for report in reports):
                return reports
            time.sleep(0.1)
    raise SystemExit(f"The jobs did not end. The worker's log: {STATE / 'worker.log'}")


def _show_the_limit(environment: Mapping[str, str]) -> None:
    """Show how many payments ran at once, and that the limit of the bank held."""
    with _connect(environment) as connection:
        most = read_most_at_once(connection, "shop.tasks.charge_card")
    if most > _CALLS_AT_ONCE:
        raise SystemExit(f"{most} payments ran at once, and the bank takes {_CALLS_AT_ONCE}")
    console.print(
        f"The worker ran 10 jobs at once, and at most {most} payments: the bank has a limit of {_CALLS_AT_ONCE}."
    )


def _kill_a_worker(environment: Mapping[str, str]) -> None:
    """Kill a worker in the middle of a workflow, and show that another worker runs the workflow to its end."""
    quick = {**environment, "SHOP_WORKER": "quick to miss another"}
    manage({**quick, "SHOP_LOG_LEVEL": "WARNING"}, "ship_order", "1")
    with _connect(environment) as connection, console.status("Killing a worker while it runs a job"):
        with managed(quick, *_WORKER, log=STATE / "killed.log") as worker:
            _wait_for(connection, worker, "pack_parcel", "doing")
            worker.kill()
        with managed(quick, *_WORKER, log=STATE / "rescuer.log") as worker:
            _wait_for(connection, worker, "hand_over", "succeeded")
        steps = read_steps(connection, "ship order 1")
    console.print("A worker was killed (SIGKILL) while it packed a parcel. Another worker packed it again.")
    ends = ", ".join(f"{step} {status} (runs: {runs})" for step, status, runs in steps)
    console.print(f"The workflow of the parcel went on to its end: {ends}.")


def _wait_for(connection: psycopg.Connection, worker: subprocess.Popen[bytes], task: str, status: str) -> None:
    """Wait until the job of a task of the workflow has this status."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and worker.poll() is None:
        if read_status(connection, f"shop.tasks.{task}") == status:
            return
        time.sleep(0.1)
    raise SystemExit(f"{task} did not become {status}. The logs of the workers: {STATE}")


def _check(reports: list[TaskReport]) -> None:
    """Check that the outcomes are the expected ones."""
    by_task = {report.task_name.rpartition(".")[2]: report for report in reports}
    charged, receipts, reviews = (by_task[name] for name in ("charge_card", "send_receipt", "ask_for_review"))
    declined = ORDERS // 100
    expected = {
        "one payment per order": charged.jobs == ORDERS,
        "declined cards failed": charged.failed == declined,
        "payments retried": charged.retries == ORDERS // 10 + declined,
        "receipts for paid orders": receipts.succeeded == ORDERS - declined,
        "reviews came due": reviews.succeeded == reviews.scheduled == ORDERS // 20,
    }
    wrong = [name for name, holds in expected.items() if not holds]
    if wrong:
        raise SystemExit(f"Unexpected outcomes: {', '.join(wrong)}")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def main(arguments: list[str]) -> None:
    """Run the demo or serve its project. Ctrl-C ends both without a traceback, at any time."""
    if arguments not in ([], ["serve"]):
        raise SystemExit("usage: python -m examples.django_demo [serve]")
    try:
        serve() if arguments else run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(sys.argv[1:])
