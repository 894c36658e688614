"""Names that 3.x has left behind at the top, and what it says of itself there."""

from __future__ import annotations

import importlib.metadata
from typing import Any, NoReturn

from procrastinate import exceptions


class Moved:
    """Stands where something was: whatever is done with it says where it is now."""

    def __init__(self, name: str, new_path: str) -> None:
        self._message = f"procrastinate.{name} is {new_path} now"

    def _refuse(self) -> NoReturn:
        raise exceptions.MovedElsewhere(self._message)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by whoever looks into the module
            raise AttributeError(name)
        self._refuse()


def metadata() -> dict[str, str]:
    """Version, authors, license and URL of the installed distribution; empty where it does not say."""
    fields: Any = importlib.metadata.metadata("procrastinate")
    wanted = {
        "version": "Version",
        "author": "Author",
        "author_email": "Author-email",
        "license": "License-Expression",
        "url": "Home-page",
    }
    return {name: fields.get(field) or "" for name, field in wanted.items()}
