"""The benchmark suite: it compares this project with its peers on a dedicated PostgreSQL server (``make bench``)."""
