"""What holds for the whole suite."""

from __future__ import annotations

import gc

# Nine thousand tests are some million objects that stay; to look through them for cycles every 700 new ones is a
# tenth of the collection and some percent of the tests.
gc.set_threshold(100_000, 20, 50)
