"""The shop on Flask: a real client, a real server, a real worker."""

from __future__ import annotations

import httpx

from tests.examples.programs import Programs

FLASK = ("flask", "--app", "examples.flask_app.web")
WORKER = ("procrastinate", "--app", "examples.flask_app.tasks.queue", "worker", "--one-shot")
JOBS = ("procrastinate", "--app", "examples.flask_app.tasks.queue", "shell", "list_jobs", "details")


def test_an_order_and_its_job_are_one_transaction(empty_database_url: str) -> None:
    """Both are there, or neither; and the worker sends the receipt."""
    programs = Programs(empty_database_url)
    programs.run(*FLASK, "create-tables")
    with programs.serve(*FLASK, "run", "--port", "0") as address, httpx.Client(base_url=address) as client:
        accepted = client.post("/orders", data={"email": "a@example.org", "euros": "20"})
        assert (accepted.status_code, accepted.headers["location"]) == (303, "/")

        declined = client.post("/orders", data={"email": "b@example.org", "euros": "2000"})
        assert declined.status_code == 402

        page = client.get("/").text
        assert "a@example.org" in page
        assert "will be sent" in page
        assert "b@example.org" not in page
        assert programs.run(*JOBS).count("[todo]") == 1

        programs.run(*WORKER)

        assert "20 € paid by a@example.org" in client.get("/").text
        assert programs.run(*JOBS).count("[succeeded]") == 1
