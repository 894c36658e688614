"""Celery's canvas, refused by name: a workflow of this queue takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from procrastinate._pages import page
from procrastinate.from_celery.exceptions import NotSupported


def refuse(name: str) -> NoReturn:
    """Refuse a part of the canvas.

    Raises
    ------
    NotSupported
        Always. It names the part and the page to read.
    """
    raise NotSupported(
        f"{name} belongs to Celery's canvas, which has no stand-in: build a workflow with app.workflow(...) and "
        f"task.as_step(...), or leave this one in Celery, see {page('from-celery', 'Canvas')}"
    )


def _refused(name: str) -> Callable[..., NoReturn]:
    def call(*args: Any, **kwargs: Any) -> NoReturn:
        refuse(name)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Refuse ``{name}``: see :func:`refuse`."
    return call


chain = _refused("chain")
chord = _refused("chord")
chunks = _refused("chunks")
group = _refused("group")
maybe_signature = _refused("maybe_signature")
signature = _refused("signature")
xmap = _refused("xmap")
xstarmap = _refused("xstarmap")
