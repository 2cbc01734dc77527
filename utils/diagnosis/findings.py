"""What a check is told and what it says: the situation and its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from utils.run_context import Target
    from utils.settings import Loaded
    from utils.targets import TargetChoice

__all__ = ["EXIT_CONFIG", "EXIT_UNAVAILABLE", "Check", "Finding", "Situation"]

EXIT_CONFIG = 78
EXIT_UNAVAILABLE = 69


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination. `fail`: a run would not work, and would end with *exit_code*."""

    section: str
    name: str
    status: Literal["ok", "info", "warn", "fail"]
    detail: str
    hint: str = ""
    origin: str = ""
    """Settings only: where the value comes from."""
    exit_code: int = 0
    condition: str = ""
    """What a run depends on that was not tried, as the end of the sentence `a run would work ...`."""


@dataclass(slots=True)
class Situation:
    """What the checks look at; the earlier ones fill in what the later ones need."""

    flags: Mapping[str, object]
    environ: Mapping[str, str]
    config_file: Path | None = None
    deep: bool = False
    loaded: Loaded | None = field(default=None, repr=False)
    choice: TargetChoice | None = None
    fallbacks: tuple[Target, ...] = ()

    @property
    def uses_embedded(self) -> bool:
        """Whether a run here would be answered by the embedded server."""
        return self.choice is not None and self.choice.target.is_embedded

    @property
    def secrets(self) -> list[str]:
        """Every key that is known here, to be kept out of the output."""
        keys = [self.flags.get("api_key"), self.environ.get("OPENAI_API_KEY"), self.environ.get("KAYGRAPH_API_KEY")]
        keys += self.loaded.secrets if self.loaded is not None else ()
        return [key.strip() for key in keys if isinstance(key, str) and key.strip()]


Check = Callable[[Situation], Iterable[Finding]]
