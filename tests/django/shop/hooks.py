"""What settings can name."""

from __future__ import annotations

from procrastinate import App, Blueprint
from procrastinate.adapters.django.connector import DjangoConnector

blueprint = Blueprint()


@blueprint.task(name="from_blueprint")
def from_blueprint() -> None:
    """A task that belongs to no app yet."""


def on_app_ready(app: App) -> None:
    """Add a blueprint."""
    app.add_tasks_from(blueprint, namespace="shop")


class OwnConnector(DjangoConnector):
    """A connector of the project's own."""


def create_connector() -> OwnConnector:
    """Make it."""
    return OwnConnector("default")
