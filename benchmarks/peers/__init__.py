"""Programs that drive one system each, at its best.

Each runs in the virtual environment of its system, so it imports that system, the standard library, and
:mod:`benchmarks.peers.driving`, and nothing else of this suite.
"""
