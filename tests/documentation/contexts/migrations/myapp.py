"""The app that the commands name, and the tables of its own."""

import os

import sqlalchemy as sa

import procrastinate

app = procrastinate.App(connector=os.environ["DATABASE_URL"])
metadata = sa.MetaData()
orders = sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True))
