"""Tasks, declared on the app."""

from myapp import app


@app.task
def send_mail(to: str) -> None: ...
