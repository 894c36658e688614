"""A Sphinx extension with which ``automodule`` documents tasks as functions.

In ``conf.py``::

    extensions = ["sphinx.ext.autodoc", "procrastinate.contrib.sphinx"]
"""

from __future__ import annotations

from typing import Any

from procrastinate._extras import needs_extra

with needs_extra("The extension for Sphinx", "sphinx"):
    import sphinx
    from sphinx.application import Sphinx
    from sphinx.ext.autodoc import FunctionDocumenter

from procrastinate.tasks import Task

_CLASS_BASED = "autodoc_use_legacy_class_based"


class TaskDocumenter(FunctionDocumenter):
    """Documents a task with its function's signature and docstring."""

    objtype = "procrastinate_task"
    directivetype = "function"
    priority = FunctionDocumenter.priority + 10

    @classmethod
    def can_document_member(cls, member: Any, membername: str, isattr: bool, parent: Any) -> bool:
        """Return True for a task."""
        return isinstance(member, Task)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the documenter with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    if sphinx.version_info >= (9,):
        # Custom documenters need the old autodoc, which Sphinx 9 keeps next to the new one.
        app.config[_CLASS_BASED] = True
    app.add_autodocumenter(TaskDocumenter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
