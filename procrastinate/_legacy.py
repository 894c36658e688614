"""Names of 3.x at the top of the package: moved objects, and metadata of the distribution."""

from __future__ import annotations

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


AiopgConnector = Moved("AiopgConnector", "procrastinate.contrib.aiopg.AiopgConnector")
Psycopg2Connector = Moved("Psycopg2Connector", "procrastinate.contrib.psycopg2.Psycopg2Connector")

_FIELDS = {
    "__version__": "Version",
    "__author__": "Author",
    "__author_email__": "Author-email",
    "__license__": "License-Expression",
    "__url__": "Home-page",
}


def metadata(name: str) -> str:
    """Return a fact about the installed distribution, or an empty string if it does not say.

    Parameters
    ----------
    name:
        The attribute of the package, such as ``__version__``.

    Raises
    ------
    AttributeError
        The package has no such attribute.
    """
    if name not in _FIELDS:
        raise AttributeError(f"module 'procrastinate' has no attribute {name!r}")
    import importlib.metadata  # slow, and most programs do not ask

    try:
        fields: Any = importlib.metadata.metadata("procrastinate")
    except importlib.metadata.PackageNotFoundError:  # a program that was frozen into one file, or a folder on the path
        return ""
    return fields.get(_FIELDS[name]) or ""
