"""``python -m procrastinate``."""

from __future__ import annotations

import sys

from procrastinate.cli import main

if __name__ == "__main__":
    sys.exit(main())
