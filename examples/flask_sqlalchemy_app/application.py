"""The Flask application, its database and the queue on the same engine."""

from __future__ import annotations

import os

import flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

import procrastinate
from procrastinate.contrib.flask import app_context, init_app


class Base(DeclarativeBase):
    """The base class of the shop's tables."""


app = flask.Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
db = SQLAlchemy(app, model_class=Base)

with app.app_context():
    queue = procrastinate.App(
        connector=db.engine,
        import_paths=["examples.flask_sqlalchemy_app.tasks"],
        worker_defaults={"task_middleware": app_context(app)},  # tasks can use db.session
    )
init_app(app, queue)
