"""Driver programs, each of which runs one system with its best settings.

A program runs in the virtual environment of its system. It imports only that system, the standard library and
:mod:`benchmarks.peers.driving`.
"""
