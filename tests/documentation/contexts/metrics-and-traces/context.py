"""What the page on metrics and traces takes for granted: an app that is open."""

import os

import flask

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()
flask_app = flask.Flask(__name__)


def current_user() -> str:
    """Return who makes the request."""
    return "ada"


@app.task(name="export", pass_context=True)
def export(context: procrastinate.JobContext) -> None:
    described.append(context.job.meta)


described: list[dict[str, object]] = []


def at_the_end() -> None:
    """The metrics are served, and the page's hook describes a job."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "HTTP_AUTHORIZATION": "Bearer the-token"}
    body = b"".join(globals()["wsgi_application"](environ, lambda status, headers: None))
    assert b"# TYPE procrastinate_queue_jobs gauge" in body
    answer = flask_app.test_client().get("/monitor/metrics", headers={"Authorization": "Bearer the-token"})
    assert b"# TYPE procrastinate_queue_jobs gauge" in answer.data
    ran: list[int] = []
    app.task(name="run")(lambda: ran.append(1)).defer()
    app.run_worker(wait=False)
    assert ran == [1]
    assert described == [{"user": "ada", "reason": "asked by phone"}]
