"""The laws of the engine on many random cases: `python -m tests.guardrails.fuzz [--texts N] [--seed S] [--law NAME]`.

Without options it runs what is promised: 20,000 texts for each law, and 3,000 with every prefix for minimal hold-back.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.guardrails.engine_laws import LAWS, Tally

TEXTS = 20_000
HOLD_BACK_SHARE = 3, 20
"""The laws that try every continuation of every prefix take this share of the texts."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=TEXTS, help="texts per law (3/20 of it for minimal hold-back)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--law", choices=LAWS, action="append")
    options = parser.parse_args()
    for name in options.law or LAWS:
        share, of = HOLD_BACK_SHARE if name.startswith("holds_") else (1, 1)
        count = max(1, options.texts * share // of)
        tally = Tally()
        started = time.monotonic()
        for n in range(count):
            seed = f"{options.seed}-{name}-{n}"
            try:
                LAWS[name](random.Random(seed), tally)
            except Exception as error:
                print(f"{name}: case {seed!r}: {type(error).__name__}: {error}")
                return 1
        print(
            f"{name}: {tally.texts:,} texts, {tally.hidden:,} matches hidden, {tally.prefixes:,} prefixes, "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
        for verifier, longer in sorted(tally.held_longer.items()):
            print(f"  {verifier}: {longer:,} prefixes held for a candidate that no continuation could satisfy")
            print(f"    for example {tally.examples[verifier]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
