"""The pages of the documentation, as messages name them: by their title, and by the file in the repository."""

from __future__ import annotations

_TITLES = {"from-celery": "From Celery", "moving-in": "Moving in from Procrastinate 3.x"}


def page(name: str, section: str | None = None) -> str:
    """Return the words for a page of the documentation, to follow "see" in a message.

    Parameters
    ----------
    name:
        The file in ``docs`` without its ending.
    section:
        A heading of the page.
    """
    part = "" if section is None else f'"{section}" of '
    return f'{part}the page "{_TITLES[name]}" of the documentation (docs/{name}.md in the repository)'
