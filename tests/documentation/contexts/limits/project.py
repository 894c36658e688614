"""The app that the commands of the page name."""

import os

import sqlalchemy as sa

import procrastinate
from procrastinate import core

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
with sa.create_engine(os.environ["DATABASE_URL"]).begin() as connection:  # as a worker that ran before has left them
    core.define_limits(
        connection,
        [
            core.LimitDefinition(name="openai", concurrency=5),
            core.LimitDefinition(name="github", rates=(core.RateTerms(10, 1.0),)),
        ],
    )
