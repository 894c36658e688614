"""A shop with loyalty points on Flask-SQLAlchemy, which awards them by jobs, each once."""
