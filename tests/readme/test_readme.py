"""What the README tells a new user to do works, in an empty folder."""

from __future__ import annotations

import pathlib

import httpx
import pytest
import sqlalchemy as sa

from tests.readme.project import Project, free_port, readme_files

DJANGO_FILES = ("mysite/settings.py", "shop/tasks.py", "shop/views.py", "mysite/urls.py")


@pytest.fixture
def project(tmp_path: pathlib.Path, empty_database_url: str) -> Project:
    """An empty folder, and an empty database in the environment."""
    return Project(tmp_path, {"DATABASE_URL": empty_database_url})


def test_a_new_django_project_defers_from_a_view_and_runs_its_worker(project: Project, empty_database_url: str) -> None:
    """startproject, startapp, and the blocks of the README."""
    files = readme_files()
    project.run("django-admin", "startproject", "mysite", ".")
    project.run("python", "manage.py", "startapp", "shop")
    for path in DJANGO_FILES:
        project.write(path, files[path], append=path == "mysite/settings.py")
    project.write("mysite/settings.py", _point_to(empty_database_url), append=True)

    project.run("python", "manage.py", "migrate")
    port = free_port()
    address = f"127.0.0.1:{port}"
    with project.serve("python", "manage.py", "runserver", "--noreload", address, url=f"http://{address}/admin/"):
        response = httpx.get(f"http://{address}/order/")
    assert response.json() == {"job": 1}
    assert "Receipt for order 1" in project.run("python", "manage.py", "procrastinate", "worker", "--one-shot")


def test_a_flask_program_defers_from_a_view_and_runs_its_worker(project: Project) -> None:
    """One file, and the commands of the README."""
    project.write("flask_shop.py", readme_files()["flask_shop.py"])
    project.run("procrastinate", "--app=flask_shop.queue", "schema", "--apply")
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with project.serve("flask", "--app", "flask_shop", "run", "--port", port, url=url):
        response = httpx.post(f"{url}/order/")
    assert response.json() == {"job": 1}
    printed = project.run("procrastinate", "--app=flask_shop.queue", "worker", "--one-shot")
    assert "Receipt for order 1" in printed


def test_a_fastapi_program_defers_from_a_view_and_runs_its_worker(project: Project) -> None:
    """One file, and the commands of the README."""
    project.write("fastapi_shop.py", readme_files()["fastapi_shop.py"])
    project.run("procrastinate", "--app=fastapi_shop.queue", "schema", "--apply")
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    with project.serve("uvicorn", "fastapi_shop:app", "--port", port, url=url):
        response = httpx.post(f"{url}/order/")
    assert response.json() == {"job": 1}
    printed = project.run("procrastinate", "--app=fastapi_shop.queue", "worker", "--one-shot")
    assert "Receipt for order 1" in printed


def _point_to(url: str) -> str:
    """The test's database, in place of the one that the README names."""
    database = sa.make_url(url)
    return f'\nDATABASES["default"] |= {{"NAME": {database.database!r}, "HOST": {database.query["host"]!r}}}\n'
