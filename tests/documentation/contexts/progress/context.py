"""Sets up what the page assumes: an app that is open, and the check of the web application."""

import json
import os
import pathlib
import re
import subprocess
import threading

import procrastinate
from tests.documentation.blocks import ROOT
from tests.missing import find_program

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
app.open()


def owns(user_id: int, job_id: int) -> bool:
    """Return whether the job belongs to the user."""
    return user_id == 1


def current_user_id() -> int:
    """Return who makes the request."""
    return 1


def at_the_end() -> None:
    """The page says that the job has ended, and how far it came."""
    app.run_worker(wait=False)
    answer = globals()["read_progress"](1, globals()["job_id"])
    assert (answer["has_ended"], answer["percent"]) == (True, 100.0)
    assert answer["message"] == "Page 3 is written"
    if find_program("node"):
        _check_page()
    _check_django()


_BROWSER = """
const element = {dataset: {url: "%s"}, shown: [], set textContent(text) { console.log(text); }};
globalThis.document = {getElementById: (id) => { console.log(id); return element; }};
"""


def _check_page() -> None:
    """The script of the page shows the last progress and ends, and it shows that there is no such job."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, globals()["site"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = (ROOT / "docs" / "howto" / "progress.md").read_text()
    (script,) = re.findall(r"```javascript\n(.*?)```", page, re.DOTALL)
    for job_id, expected in (
        (globals()["job_id"], "progress\nsucceeded: Page 3 is written (100 %)\n"),
        (1234, "progress\nThere is no such job.\n"),
    ):
        program = pathlib.Path("page.mjs")
        program.write_text(_BROWSER % f"http://127.0.0.1:{server.port}/jobs/{job_id}/progress" + script)
        done = subprocess.run(["node", str(program)], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == expected, done.stdout + done.stderr
    server.shutdown()


def _check_django() -> None:
    """The view of Django shows the progress to the user of the job, and 404 for all else."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.db import connection
    from django.http import Http404
    from django.test import RequestFactory
    from django.urls import resolve
    from shop.models import Export

    with connection.schema_editor() as editor:
        editor.create_model(Export)
    job_id = globals()["job_id"]
    Export.objects.create(user_id=1, job_id=job_id)
    Export.objects.create(user_id=1, job_id=1234)

    def status(user_id: int, job_id: int) -> int:
        path = f"/jobs/{job_id}/progress"
        view, request = resolve(path), RequestFactory().get(path)
        request.user = User(pk=user_id)
        try:
            response = view.func(request, *view.args, **view.kwargs)
        except Http404:
            return 404
        assert json.loads(response.content)["percent"] == 100.0
        return int(response.status_code)

    cases = {"the user": (1, job_id), "another": (2, job_id), "a job that is gone": (1, 1234), "no job": (1, 99)}
    found = {name: status(*case) for name, case in cases.items()}
    assert found == {"the user": 200, "another": 404, "a job that is gone": 404, "no job": 404}
