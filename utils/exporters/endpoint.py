"""The address of a collector, judged as a setting."""

from __future__ import annotations

from utils.settings_sources import BadValue, checked_base_url

__all__ = ["checked_collector_url"]

_HINT = "for example http://localhost:4318"
_SIGNALS = ("/v1/traces", "/v1/metrics")


def checked_collector_url(text: str) -> str:
    """*text* as the base URL of an OTLP/HTTP collector; the path of a signal, which the protocol adds, is taken off.

    Raises: BadValue.
    """
    try:
        url = checked_base_url(text)
    except BadValue as bad:
        secret = "user name or password" in bad.reason
        hint = "give the collector's key in OTEL_EXPORTER_OTLP_HEADERS" if secret else bad.hint
        # Its other hints show a server of models.
        raise BadValue(bad.reason, hint=hint if secret or "did you mean" in hint else _HINT) from None
    for signal in _SIGNALS:
        url = url.removesuffix(signal)
    return url
