"""What the import of the SDK need not do in this program, which uses none of its 460 modules of models.

`import openai` takes 0.6 s where Python itself starts in 10 ms; half of that goes into `openai.types`, and 0.1 s into
aiohttp where that is installed. Here the packages of models are modules that run their code when somebody asks for a
name in them (the idea of `importlib.util.LazyLoader`, which loads at once if such a module is imported twice). Whoever
asks gets what there always was; a release of the SDK that is laid out otherwise is imported as it is.

For the program only: what a process of somebody else imports is not ours to change.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

__all__ = ["make_import_cheaper"]

_MODELS = "openai.types"
_lock = threading.RLock()


def make_import_cheaper() -> None:
    """To be called before `openai` is imported; without effect afterwards, and the second time."""
    if "openai" in sys.modules or any(isinstance(finder, _ModelsFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _ModelsFinder())
    # The SDK imports its aiohttp transport wherever that can be found, and goes on where it cannot. A program for one
    # answer at a time has no use for it.
    sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]  # None: "cannot be imported"


class _ModelsFinder:
    """Finds the packages of models, and has them loaded later."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual spec with a loader that waits; None for everything that is no package of models."""
        if fullname != _MODELS and not fullname.startswith(f"{_MODELS}."):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            return None
        spec.loader = _Later(spec.loader)  # type: ignore[assignment]  # the base class costs 20 ms
        return spec


class _Later:
    """A loader that makes a module whose code has not run."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, which knows how to load itself."""
        return _LaterModule(spec.name, self._loader)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing yet."""


class _LaterModule(ModuleType):
    """A package that runs its code at the first name that it does not have.

    Its submodules can be imported without that. While its code runs, a missing name is missing: circular imports rely
    on it. Another thread waits for the code.
    """

    def __init__(self, name: str, loader: Loader) -> None:
        super().__init__(name)
        self._later_loader: Loader | None = loader

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        with _lock:
            loader, self._later_loader = self._later_loader, None
            if loader is not None:
                loader.exec_module(self)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
