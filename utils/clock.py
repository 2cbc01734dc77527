"""Injected time: cores receive a `Clock`, only the outermost caller picks the real one."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "monotonic"]

Clock = Callable[[], float]
"""Seconds from an arbitrary origin; never goes backwards. Instants of one clock may be subtracted."""

monotonic: Clock = time.monotonic
