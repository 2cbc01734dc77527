"""What has been observed of one target: first-content times, gaps between chunks, speed. Pure.

Figures of earlier processes come in as sketches, those of this one are added on top, and `take_new` hands out what has
come since for whoever keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from utils.metrics.sketch import Sketch

__all__ = ["Figure", "Observations"]


class Figure:
    """One figure, read as quantiles (see `latency_window.Quantiles`): only whole weights count."""

    __slots__ = ("_all", "_load", "_new")

    def __init__(self, load: Callable[[], Sketch | None] | None = None) -> None:
        self._load = load
        self._all = Sketch()
        self._new = Sketch()

    @property
    def count(self) -> int:
        """The whole part of the weight that the quantiles stand on."""
        return int(self._known().weight)

    @property
    def weight(self) -> float:
        """How many values it stands for; older ones count as fractions."""
        return self._known().weight

    def quantile(self, q: float, /) -> float | None:
        """The value that the fraction *q* (0..1) of the weight does not exceed; None if nothing was observed."""
        return self._known().quantile(q)

    def observe(self, value: float, /) -> None:
        """Add one value."""
        self._all.add(max(0.0, value))
        self._new.add(max(0.0, value))

    def observe_all(self, values: Iterable[float], /) -> None:
        """Add many values."""
        counted = Sketch()
        counted.add_all(values)
        self._all.merge(counted)
        self._new.merge(counted)

    def _known(self) -> Sketch:
        # Not before somebody asks: most runs only add, and need not read what others have measured.
        load, self._load = self._load, None
        known = load() if load is not None else None
        if known is not None:
            self._all.merge(known)
        return self._all

    def take_new(self) -> Sketch | None:
        """What was observed since the last call; None if nothing was."""
        new, self._new = self._new, Sketch()
        return new if new.weight else None


class Observations:
    """The figures of one target. *load* gives what is known of a figure by its name; asked once, when it is needed.

    Not thread-safe: it belongs to one event loop.
    """

    def __init__(self, load: Callable[[str], Sketch | None] | None = None) -> None:
        self._load = load
        self._figures: dict[str, Figure] = {}

    @property
    def first_content_s(self) -> Figure:
        """Seconds from the start of an attempt to its first content."""
        return self._figure("first_content_s")

    @property
    def gap_s(self) -> Figure:
        """Seconds between two reads that brought something."""
        return self._figure("gap_s")

    @property
    def tokens_per_s(self) -> Figure:
        """Speed of whole answers behind their first content."""
        return self._figure("tokens_per_s")

    @property
    def prompt_chars(self) -> Figure:
        """What the model had to read before its first content, in characters."""
        return self._figure("prompt_chars")

    @property
    def hedges(self) -> Figure:
        """One for each second request: its weight is how many were sent."""
        return self._figure("hedges")

    def unspent_hedges(self, ratio: float) -> float:
        """How many more second requests the requests of all processes allow, at *ratio* of them."""
        return ratio * self.first_content_s.weight - self.hedges.weight

    def observe_gaps(self, gaps_s: Iterable[float]) -> None:
        """Add the gaps of one attempt."""
        self.gap_s.observe_all(gaps_s)

    def take_new(self) -> Iterator[tuple[str, Sketch]]:
        """What was observed since the last call, by figure."""
        for name, figure in self._figures.items():
            new = figure.take_new()
            if new is not None:
                yield name, new

    def _figure(self, name: str) -> Figure:
        figure = self._figures.get(name)
        if figure is None:
            load = self._load
            figure = self._figures[name] = Figure(None if load is None else lambda: load(name))
        return figure
