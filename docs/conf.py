"""The site of the documentation: ``make docs`` builds it into ``build/site``, with warnings as errors."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "docs.reference_settings")

import django  # noqa: E402

django.setup()

import procrastinate  # noqa: E402

project = "Procrastinate"
author = procrastinate.__author__
version = release = procrastinate.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "docs.search_words",
]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
intersphinx_mapping: dict[str, Any] = {}
exclude_patterns = ["build"]
copybutton_prompt_text = "$ "

html_show_copyright = False
html_theme = "furo"
html_title = f"Procrastinate {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(ROOT / "docs" / "search_scorer.js")
html_theme_options = {"source_edit_link": None}
# Types of other projects are named, not linked: the site is built without a network.
nitpicky = False


# What is no page of the site is named there, not linked.
_PAGES_OF_THE_REPOSITORY = "ARCHITECTURE|MAP|CONTRIBUTING|LICENSE|SECURITY|examples"
_NOT_ON_THE_SITE = re.compile(rf"\[([^\]]+)\]\((?:\.\./)?(?:{_PAGES_OF_THE_REPOSITORY}|docs/\))[^)]*\)?")


def setup(app: Any) -> None:
    """Make links lead to pages of the site."""
    app.connect("source-read", _read_source)
    app.connect("doctree-read", _mark_short_code)


def _read_source(app: Any, name: str, source: list[str]) -> None:
    text = source[0]
    text = text.replace("](../CHANGELOG.md)", "](changelog.md)").replace("](CHANGELOG.md)", "](changelog.md)")
    source[0] = _NOT_ON_THE_SITE.sub(r"\1", text)


_LONGEST_SHORT_WORD = 14


def _mark_short_code(app: Any, doctree: Any) -> None:
    """Mark inline code that names an option, so that the style sheet does not break it after its hyphens."""
    for code in doctree.findall(lambda node: node.tagname == "literal"):
        words = code.astext().split()
        if any(word.startswith("-") for word in words) and max(map(len, words)) <= _LONGEST_SHORT_WORD:
            code["classes"].append("short")
