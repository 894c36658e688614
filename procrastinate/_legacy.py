"""Names of 3.x at the top of the package: moved objects, and metadata of the distribution."""

from __future__ import annotations

import importlib.metadata
from typing import Any, NoReturn

from procrastinate import exceptions


class Moved:
    """Placeholder for a moved object. Any use of it raises ``MovedElsewhere`` with the new path."""

    def __init__(self, name: str, new_path: str) -> None:
        self._message = f"procrastinate.{name} is {new_path} now"

    def _refuse(self) -> NoReturn:
        raise exceptions.MovedElsewhere(self._message)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # tools inspect the module in this way
            raise AttributeError(name)
        self._refuse()


def metadata() -> dict[str, str]:
    """Return version, authors, license and URL of the installed distribution. A missing value is an empty string."""
    fields: Any = importlib.metadata.metadata("procrastinate")
    wanted = {
        "version": "Version",
        "author": "Author",
        "author_email": "Author-email",
        "license": "License-Expression",
        "url": "Home-page",
    }
    return {name: fields.get(field) or "" for name, field in wanted.items()}
