"""The pages of the dashboard. A view is a generator: it yields calls to the database and returns a response."""
