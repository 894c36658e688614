"""The benchmark suite: this project beside its peers, in turn, on a PostgreSQL of its own (``make bench``)."""
