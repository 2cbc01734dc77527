"""What a broken connection means to us: errors of the HTTP client and the system to our own errors."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping

import httpx2

from utils.errors import AppError, ConfigError, ConnectionLost, IdleTimeout, Unreachable
from utils.provider_errors import classify_status, parse_retry_after, shortened

__all__ = ["error_of_response", "error_of_transport"]


def error_of_response(status: int, headers: Mapping[str, str], body: object, target: str) -> AppError:
    """The error for a response outside 2xx, with what its headers say about trying again."""
    return classify_status(
        status,
        body,
        target=target,
        retry_after_s=parse_retry_after(headers, now_epoch_s=time.time()),
        should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", "")),
    )


def error_of_transport(error: Exception, target: str) -> AppError:
    """The error for an exception of the SDK, the HTTP client or the system; ours pass through.

    `simulated` is set if a cause carries a true attribute of that name (the failure simulator's errors do).
    """
    if isinstance(error, AppError):
        return error
    causes = _causes(error)
    ours = _of_causes(causes, target)
    if any(getattr(cause, "simulated", False) for cause in causes):
        from utils.failures.marking import mark_simulated  # only for whom failures are simulated

        mark_simulated(ours)
    return ours


def _causes(error: BaseException) -> list[BaseException]:
    """The error and its causes, outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _of_causes(causes: list[BaseException], target: str) -> AppError:
    # The innermost cause decides: one transport of the SDK reports refused connections as time-outs.
    for cause in reversed(causes):
        match cause:
            case ConnectionRefusedError():
                return _unreachable(target, "connection refused", "is the server running? check --base-url")
            case ssl.SSLError():
                return _unreachable(
                    target, f"TLS: {shortened(cause)}", "check the certificate, or http:// for https://"
                )
            case socket.gaierror():
                return _unreachable(target, "the host name cannot be resolved", "check --base-url and the network")
    for cause in causes:
        match cause:
            case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
                return _unreachable(target, "no connection in time", "check --base-url and the network")
            case httpx2.ConnectError() | httpx2.ProxyError():
                reason = shortened(cause) or "no connection"
                return _unreachable(target, reason, "is the server running? check --base-url")
            case httpx2.LocalProtocolError() | httpx2.UnsupportedProtocol() | UnicodeEncodeError():
                return ConfigError(
                    f"no valid HTTP request can be made for {target}",
                    hint="check the key and --base-url for stray characters",
                )
            case httpx2.DecodingError():
                return ConnectionLost(f"{target} sent a body whose compression is broken", hint="run again")
            case httpx2.ReadTimeout():
                return IdleTimeout(f"{target} stopped answering", hint="run again, or raise --idle-timeout")
            case httpx2.TransportError() | asyncio.IncompleteReadError() | OSError():
                return ConnectionLost(f"the connection to {target} broke", hint="run again")
    return ConnectionLost(f"{target} failed: {type(causes[0]).__name__}", hint="run again")


def _unreachable(target: str, reason: str, hint: str) -> Unreachable:
    return Unreachable(f"cannot reach {target}: {reason}", hint=hint)
