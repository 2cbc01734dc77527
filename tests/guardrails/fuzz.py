"""The laws of the engine on many random cases: `python -m tests.guardrails.fuzz --texts 20000 [--seed N]`."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.guardrails.engine_laws import LAWS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000, help="cases per law (a seventh for minimal hold-back)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--law", choices=LAWS, action="append")
    options = parser.parse_args()
    for name in options.law or LAWS:
        count = options.texts if "first_live" not in name else max(1, options.texts * 3 // 20)
        started = time.monotonic()
        for n in range(count):
            seed = f"{options.seed}-{name}-{n}"
            try:
                LAWS[name](random.Random(seed))
            except Exception as error:
                print(f"{name}: case {seed!r}: {type(error).__name__}: {error}")
                return 1
        print(f"{name}: {count} cases, {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
