"""The shop on FastAPI: a real client, a real server, a real worker."""

from __future__ import annotations

import httpx
import pytest

from tests.database import driver_url
from tests.examples.programs import Programs

SERVER = ("uvicorn", "examples.fastapi_app.web:app", "--port", "0")
WORKER = ("procrastinate", "--app", "examples.fastapi_app.tasks.queue", "worker", "--one-shot")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_an_order_and_its_job_are_one_transaction(empty_database_url: str, driver: str) -> None:
    """Both are there, or neither; and the worker sends the receipt."""
    programs = Programs(driver_url(empty_database_url, driver))
    programs.run("examples.fastapi_app.create_tables")
    with programs.serve(*SERVER) as address, httpx.Client(base_url=address) as client:
        accepted = client.post("/orders", json={"email": "a@example.org", "euros": 20})
        assert (accepted.status_code, accepted.json()["receipt"]) == (201, None)

        declined = client.post("/orders", json={"email": "b@example.org", "euros": 2000})
        assert declined.status_code == 402

        assert [order["email"] for order in client.get("/orders").json()] == ["a@example.org"]
        assert [(queue["name"], queue["todo"]) for queue in client.get("/queues").json()] == [("default", 1)]

        programs.run(*WORKER)

        assert client.get("/orders").json()[0]["receipt"] == "20 € paid by a@example.org"
