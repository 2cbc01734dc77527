"""The embedded model's process, started before it is known that it will be asked.

The settings alone take longer to read than the process takes to come up, and the first token waits for both.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from utils.errors import AppError

if TYPE_CHECKING:
    from utils.embedded_model.server import EmbeddedServer

__all__ = ["started_if_likely"]

_ELSEWHERE_FLAGS = ("base_url", "api_key", "gguf", "profile", "config", "template", "dry_run")
_ELSEWHERE_VARIABLES = (
    *("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    *(f"KAYGRAPH_{name}" for name in ("BASE_URL", "API_KEY", "GGUF", "MODEL", "TARGET", "PROFILE", "CONFIG")),
)


def started_if_likely(options: Mapping[str, Any], environ: Mapping[str, str]) -> EmbeddedServer | None:
    """The pinned model's server, starting, if nothing at first sight speaks against it: no flag, variable or settings
    file that could name another target. None otherwise, and if it is not fetched or cannot be started (whoever needs it
    then will say so). The caller stops it; a wrong guess costs a process that ends at once.
    """
    if any(options.get(name) for name in _ELSEWHERE_FLAGS) or "@" in (options.get("model") or ""):
        return None
    if any(environ.get(name) for name in _ELSEWHERE_VARIABLES):
        return None
    from utils.embedded_model.ready import start_early
    from utils.settings_file import default_config_file

    file = default_config_file(environ)
    if file is not None and os.path.lexists(file):
        return None
    try:
        return start_early(api_key=secrets.token_urlsafe(24))
    except AppError:
        return None
