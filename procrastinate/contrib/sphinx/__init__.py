"""A Sphinx extension: ``automodule`` documents tasks as the functions that they are.

In ``conf.py``::

    extensions = ["sphinx.ext.autodoc", "procrastinate.contrib.sphinx"]
"""

from __future__ import annotations

from typing import Any

import sphinx
from sphinx.application import Sphinx
from sphinx.ext.autodoc import FunctionDocumenter

from procrastinate.tasks import Task

_CLASS_BASED = "autodoc_use_legacy_class_based"


class TaskDocumenter(FunctionDocumenter):
    """Documents a task with the signature and the docstring of its function."""

    objtype = "procrastinate_task"
    directivetype = "function"
    priority = FunctionDocumenter.priority + 10

    @classmethod
    def can_document_member(cls, member: Any, membername: str, isattr: bool, parent: Any) -> bool:
        """Whether it is a task."""
        return isinstance(member, Task)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    if sphinx.version_info >= (9,):
        # Documenters of one's own are for the autodoc that Sphinx 9 has kept beside the new one.
        app.config[_CLASS_BASED] = True
    app.add_autodocumenter(TaskDocumenter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
