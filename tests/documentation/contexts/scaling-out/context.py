"""The page takes nothing for granted."""


def at_the_end() -> None:
    """The job of the session waits in the database of that session, and that of the request in the other one."""
    names = []
    for app in globals()["apps"]:
        with app.open():
            names.append([job.task_kwargs["name"] for job in app.job_manager.list_jobs(status="todo")])
    assert names == [["Eve"], ["Max"]]
