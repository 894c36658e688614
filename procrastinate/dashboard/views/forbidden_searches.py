"""Searches that would tell what pages hide."""

from __future__ import annotations

import dataclasses

from procrastinate.dashboard.redaction import is_hidden_key, list_tasks_without_arguments
from procrastinate.dashboard.search import Question
from procrastinate.dashboard.visit import Visit


def without_hidden(visit: Visit, question: Question) -> Question:
    """Leave out a search in arguments that the visitor may not see. Its hits would tell the values."""
    if question.search.args is None:
        return question
    hidden_tasks = tuple(list_tasks_without_arguments(visit.app))
    is_hidden = any(is_hidden_key(visit.settings.redact, "", name) for name in question.argument_names)
    if not visit.may_search_arguments or is_hidden:
        return dataclasses.replace(
            question,
            search=dataclasses.replace(question.search, args=None),
            problem="These arguments are hidden and cannot be searched.",
        )
    return dataclasses.replace(question, search=dataclasses.replace(question.search, without_tasks=hidden_tasks))
