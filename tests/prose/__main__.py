"""``python -m tests.prose``: how many words of the list are left, and where; fails above the budget.

``--all`` prints every use, ``--lower`` lowers the budget to what is counted.
"""

from __future__ import annotations

import sys

from tests.prose import words


def main(arguments: list[str]) -> int:
    """Print the count, and return the exit status."""
    if "--lower" in arguments:
        words.lower_budget()
    rules = words.Rules.read()
    finds = words.find_all(rules)
    above = words.above_budget(finds, rules)
    for find in finds:
        if "--all" in arguments or find.folder in above:
            print(f"{find.file}:{find.line}: {find.word!r}: {rules.plain[find.word]}")
    for folder, more in above.items():
        print(f"{folder}: {more} more than the budget of tests/prose/words.toml")
    counted = words.count(finds)
    print("Words of the list:", ", ".join(f"{folder} {number}" for folder, number in counted.items()))
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
