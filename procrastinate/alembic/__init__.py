"""The migrations: the one source of the schema. Django's are emitted from these."""
