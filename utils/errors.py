"""Everything that can go wrong, as one tree; each leaf knows its exit code and the way out.

AppError
├── InternalError            1   a bug of ours
├── UsageProblem             2   options, empty `-`, prompt over the limit
├── GuardError               4   policy said no
│   ├── PromptRejected           the prompt guard refused the prompt
│   ├── AnswerBlocked            an output guard stopped the answer
│   ├── ValidationFailed         the answer cannot become what was asked for: a schema, a length, ...
│   └── ContentFiltered          the server ended with finish_reason `content_filter`
├── ConfigError             78   missing key, bad file, bad value
├── ProviderError           69   the server's or the network's fault
│   ├── Unreachable              refused, DNS, TLS, no connection in time
│   ├── ConnectionLost           the connection ended or broke after it was made
│   ├── ServerFailure            408, 409, 5xx, or an error object inside the stream
│   ├── NotAStream               200, but HTML, JSON, or nothing at all
│   ├── ProtocolError            bytes that are not the protocol (bad JSON, bad UTF-8, oversized event)
│   ├── StreamTruncated          the stream ended without a finish_reason
│   ├── FirstTokenTimeout        no content before the first-token deadline
│   ├── IdleTimeout              content stopped for longer than the idle deadline
│   ├── BreakerOpen              the circuit breaker refuses the target for now
│   ├── RateLimited         75   429
│   ├── AuthFailed          77   401, 403, insufficient_quota
│   ├── ModelNotFound       78   404
│   ├── RequestRefused      65   400, 413, 422
│   ├── EmbeddedModelError       the model that needs no key cannot be fetched or started
│   │   └── EmbeddedModelDied        its process ended; another one can be started
│   └── ResumeDiverged           a replayed answer differs from what was shown
├── TotalTimeout            69   --timeout ran out (3 once text was shown)
├── AnswerTooLong           69   the answer has no end (3 once text was shown)
└── Stopped                      not a failure: the user or the system ended the run
    ├── Cancelled          130   Ctrl-C
    ├── Terminated         143   SIGTERM
    └── OutputClosed       141   the reader of stdout went away

A ProviderError, TotalTimeout or AnswerTooLong after text was shown ends with exit code 3 instead
(`exit_code_after_text`): what is on the screen is not the whole answer.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AnswerBlocked",
    "AnswerTooLong",
    "AppError",
    "AuthFailed",
    "BreakerOpen",
    "Cancelled",
    "ConfigError",
    "ConnectionLost",
    "ContentFiltered",
    "EmbeddedModelDied",
    "EmbeddedModelError",
    "FirstTokenTimeout",
    "GuardError",
    "IdleTimeout",
    "InternalError",
    "ModelNotFound",
    "NotAStream",
    "OutputClosed",
    "PromptRejected",
    "ProtocolError",
    "ProviderError",
    "RateLimited",
    "RequestRefused",
    "ResumeDiverged",
    "ServerFailure",
    "Stopped",
    "StreamTruncated",
    "Terminated",
    "TotalTimeout",
    "Unreachable",
    "UsageProblem",
    "ValidationFailed",
]

EXIT_INCOMPLETE = 3


class AppError(Exception):
    """An error that a user may meet: *message* says what happened with which value, *hint* what to do next."""

    exit_code: ClassVar[int] = 1
    exit_code_after_text: ClassVar[int | None] = None
    """Exit code if part of the answer was already shown; None: the same as `exit_code`."""

    def __init__(self, message: str, *, hint: str = "", simulated: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.simulated = simulated

    @property
    def code(self) -> str:
        """The class name in snake case: the stable name of this error in JSON output."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")

    def exit_code_for(self, *, text_shown: bool) -> int:
        """The process exit code, given whether any part of the answer has been shown."""
        if text_shown and self.exit_code_after_text is not None:
            return self.exit_code_after_text
        return self.exit_code


class InternalError(AppError):
    """A bug of ours."""


class UsageProblem(AppError):
    """The command line or its input cannot be used."""

    exit_code = 2


class GuardError(AppError):
    """A guard or validator said no."""

    exit_code = 4


class PromptRejected(GuardError):
    """The prompt guard refused the prompt; nothing was sent."""


class AnswerBlocked(GuardError):
    """An output rule stopped the answer."""


class ValidationFailed(GuardError):
    """A validator stopped the answer, or found it incomplete at its end."""


class ContentFiltered(GuardError):
    """The server's own filter ended the answer (finish_reason `content_filter`)."""


class ConfigError(AppError):
    """A setting, key or file is missing or wrong."""

    exit_code = 78


class ProviderError(AppError):
    """The server's or the network's fault.

    `is_retryable`: the same request may succeed later. `is_target_failure`: counts against the target's
    health in the circuit breaker. `retry_after_s`: the server asked to wait this long, in seconds.
    """

    exit_code = 69
    exit_code_after_text = EXIT_INCOMPLETE
    is_retryable: bool = True
    is_target_failure: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        simulated: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        parameter: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, simulated=simulated)
        self.retry_after_s = retry_after_s
        self.status = status
        self.parameter = parameter


class Unreachable(ProviderError):
    """No connection could be made."""


class ConnectionLost(ProviderError):
    """The connection ended or broke after it was made."""


class ServerFailure(ProviderError):
    """The server reported its own failure."""


class NotAStream(ProviderError):
    """A successful status, but no event stream: HTML, JSON, or nothing at all."""


class ProtocolError(ProviderError):
    """Bytes that are not the protocol."""


class StreamTruncated(ProviderError):
    """The stream ended without saying that the answer is finished."""


class FirstTokenTimeout(ProviderError):
    """No content arrived before the first-token deadline."""


class IdleTimeout(ProviderError):
    """Content stopped arriving for longer than the idle deadline."""


class BreakerOpen(ProviderError):
    """The circuit breaker refuses the target for now; `retry_after_s` says how long."""

    is_retryable = False
    is_target_failure = False


class RateLimited(ProviderError):
    """429: too many requests or tokens. The target is healthy, only busy."""

    exit_code = 75
    is_target_failure = False


class AuthFailed(ProviderError):
    """401, 403 or insufficient_quota: the key does not open the door."""

    exit_code = 77
    is_retryable = False
    is_target_failure = False


class ModelNotFound(ProviderError):
    """404: the server does not know the model or the path."""

    exit_code = 78
    is_retryable = False
    is_target_failure = False


class RequestRefused(ProviderError):
    """400, 413, 422: the request itself is wrong. `parameter` names the offending one if the server did."""

    exit_code = 65
    is_retryable = False
    is_target_failure = False
    is_too_long = False
    """Whether the conversation does not fit the model's context."""


class EmbeddedModelError(ProviderError):
    """The embedded model cannot be fetched or started."""

    is_retryable = False


class EmbeddedModelDied(EmbeddedModelError):
    """The process of the embedded model ended by itself, or was ended by the system."""

    is_retryable = True


class ResumeDiverged(ProviderError):
    """A replayed answer differs from the text that was already delivered, so it cannot be joined to it."""

    is_retryable = False
    is_target_failure = False


class TotalTimeout(AppError):
    """The time budget of the whole run (`--timeout`) is used up."""

    exit_code = 69
    exit_code_after_text = EXIT_INCOMPLETE


class AnswerTooLong(AppError):
    """The server goes on writing beyond every answer that we know. Nothing is asked again: it would write on."""

    exit_code = 69
    exit_code_after_text = EXIT_INCOMPLETE


class Stopped(AppError):
    """The user or the system ended the run; what was shown stays."""


class Cancelled(Stopped):
    """Ctrl-C (SIGINT)."""

    exit_code = 130


class Terminated(Stopped):
    """SIGTERM."""

    exit_code = 143


class OutputClosed(Stopped):
    """The reader of standard output went away (broken pipe)."""

    exit_code = 141
