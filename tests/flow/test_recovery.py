"""What follows a failure, with mocked streams: fallbacks, ways to go on, loops, breaker, limiter, adaptation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flow.harness import FlowRun, run_flow
from tests.flow.test_flow import BROKE, OPENED, STOP, MockBackend, MockSource, text, types
from utils.errors import (
    AuthFailed,
    EmbeddedModelDied,
    FirstTokenTimeout,
    RateLimited,
    RequestRefused,
    ServerFailure,
    Unreachable,
)
from utils.events import (
    Adapted,
    BreakerChanged,
    Event,
    FellBack,
    Flagged,
    Opened,
    ReasoningDelta,
    Resumed,
    TextDelta,
    TokenLogprob,
    Usage,
)
from utils.resilience.adapting import Adaptation
from utils.resilience.breaker import Breaker
from utils.resilience.continuation import Capabilities, Detected
from utils.resilience.limited import SharedLimiter
from utils.resilience.limiter import Limiter, Limits
from utils.resilience.observations import Observations
from utils.resilience.upstream import Upstream
from utils.run_context import Deadlines, Parameters, Request, Target

WORDS = Capabilities(replay=False, prefill=None, continue_=True)
PREFILL = Capabilities(replay=False, prefill="trailing", continue_=True)
LONG = ". " + " ".join(f"Word number {n} is not like any other." for n in range(12))
"""More than is held for the seam."""
PROSE = "The quick brown fox jumps over the lazy dog near the river"


class AskedBackend(MockBackend):
    """Remembers what it was asked."""

    def __init__(self, *attempts: Any, detected: Detected | None = None) -> None:
        super().__init__(*attempts)
        self.requests: list[Request] = []
        self.deadlines: list[float | None] = []
        self.detections = 0
        self._detected = detected or Detected()

    async def open_chat(self, request: Request, target: Target, **options: Any) -> MockSource:
        self.requests.append(request)
        self.deadlines.append(options["first_token_deadline_s"])
        return await super().open_chat(request, target, **options)

    async def detect(self, *args: Any) -> Detected:
        self.detections += 1
        return self._detected


def run(backend: MockBackend, **options: Any) -> FlowRun:
    return run_flow("http://x/v1", backend=backend, **{"retries": 2, **options})


def other(backend: MockBackend, **fields: Any) -> Upstream:
    return Upstream(Target("http://y/v1", "b"), backend, **fields)


def last_of(run: FlowRun, kind: type[Event]) -> Any:
    return [event for event in run.events if isinstance(event, kind)][-1]


def answered(*parts: str, by: str = "t") -> list[list[Event]]:
    return [[Opened(by, "m", 1), *text(*parts)], [STOP]]


# -- ways to go on ---------------------------------------------------------------------------------------------------


def test_a_server_that_continues_messages_is_given_the_partial_answer() -> None:
    backend = AskedBackend([[OPENED, *text(PROSE[:20])], BROKE], answered(PROSE[20:]))
    result = run(backend, capabilities=PREFILL, parameters=Parameters(max_tokens=50))
    assert (result.report.text, result.report.exit_code) == (PROSE, 0)
    assert last_of(result, Resumed).strategy == "prefill"
    assert backend.requests[1].messages()[-1] == {"role": "assistant", "content": PROSE[:20].rstrip()}
    assert backend.requests[1].parameters.max_tokens == 50 - 5  # an estimate of what is there already


def test_any_other_server_is_asked_in_words_and_what_it_repeats_is_left_out() -> None:
    backend = AskedBackend([[OPENED, *text(PROSE[:40])], BROKE], answered("jumps over the lazy dog near the river"))
    result = run(backend, capabilities=WORDS)
    assert (result.report.text, result.report.exit_code) == (PROSE, 0)
    resumed = last_of(result, Resumed)
    assert (resumed.strategy, resumed.attempt) == ("continue", 2)
    assert resumed.overlap_chars == len("jumps over the lazy ")
    assert [message["role"] for message in backend.requests[1].messages()] == ["user", "assistant", "user"]


def test_what_a_server_allows_is_asked_once_and_only_when_it_matters() -> None:
    backend = AskedBackend(
        *([[OPENED, *text(PROSE[:20])], BROKE], [[OPENED, *text(PROSE[20:40])], BROKE], answered(PROSE[20:])),
        detected=Detected("llamacpp"),
    )
    result = run(backend, capabilities=None)
    assert result.report.text == PROSE
    # What the second attempt wrote was held for the seam when it broke: it was never shown.
    assert [event.strategy for event in result.events if isinstance(event, Resumed)] == ["prefill"]
    assert backend.detections == 1
    before_text = AskedBackend(BROKE, answered("Hi"))
    assert run(before_text, capabilities=None).report.text == "Hi"
    assert before_text.detections == 0


def test_a_replay_that_differs_is_followed_by_the_next_way_without_a_pause() -> None:
    can = Capabilities(replay=True, prefill="trailing")
    backend = AskedBackend(
        [[OPENED, *text(PROSE[:20])], BROKE], [[OPENED, *text("Another answer")]], answered(PROSE[20:])
    )
    result = run(backend, capabilities=can, deterministic=True)
    assert (result.report.text, result.report.exit_code) == (PROSE, 0)
    assert types(result.events).count("Retrying") == 2
    assert [event.strategy for event in result.events if isinstance(event, Resumed)] == ["prefill"]


def test_a_server_that_refuses_to_continue_is_asked_another_way() -> None:
    refusal = RequestRefused("does not support assistant message prefill", status=400)
    backend = AskedBackend([[OPENED, *text(PROSE[:20])], BROKE], refusal, answered(PROSE[20:]))
    result = run(backend, capabilities=PREFILL)
    assert (result.report.text, result.report.exit_code) == (PROSE, 0)
    assert last_of(result, Resumed).strategy == "continue"


def test_after_a_continuation_the_original_request_is_not_replayed() -> None:
    can = Capabilities(replay=True, prefill="trailing")
    backend = AskedBackend(
        *([[OPENED, *text(PROSE[:20])], BROKE], [[OPENED, *text("Other")]]),
        *([[OPENED, *text(PROSE[20:], LONG)], BROKE], answered(" The end.")),
    )
    result = run(backend, capabilities=can, deterministic=True, retries=4)
    assert result.report.text == PROSE + LONG + " The end."
    assert [event.strategy for event in result.events if isinstance(event, Resumed)] == ["prefill", "prefill"]


def test_a_structured_answer_is_replayed_or_not_continued_at_all() -> None:
    schema = Parameters(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}})
    backend = AskedBackend([[OPENED, *text('{"a": ')], BROKE])
    result = run(backend, capabilities=PREFILL, parameters=schema)
    assert (result.report.exit_code, result.report.text) == (3, '{"a": ')


def test_an_answer_that_had_all_its_tokens_has_only_lost_its_end() -> None:
    tokens = [TextDelta(word, (TokenLogprob(word, -0.1),)) for word in ("one", " two", " three")]
    backend = AskedBackend([[OPENED, *tokens], BROKE])
    result = run(backend, capabilities=PREFILL, parameters=Parameters(max_tokens=3))
    assert (result.report.finish_reason, result.report.exit_code) == ("length", 0)
    assert len(backend.requests) == 1


def test_a_model_that_reasoned_is_asked_in_words() -> None:
    backend = AskedBackend([[OPENED, ReasoningDelta("hm"), *text(PROSE[:20])], BROKE], answered(PROSE[20:]))
    result = run(backend, capabilities=PREFILL)
    assert last_of(result, Resumed).strategy == "continue"


# -- fallbacks -------------------------------------------------------------------------------------------------------


def test_a_target_that_refuses_the_key_is_followed_by_the_next_one() -> None:
    second = AskedBackend(answered("Hi", by="b at http://y/v1"))
    result = run(MockBackend(AuthFailed("no")), fallbacks=[other(second)])
    assert (result.report.text, result.report.exit_code, result.report.target) == ("Hi", 0, "b at http://y/v1")
    assert last_of(result, FellBack) == FellBack("test-model at http://x/v1", "b at http://y/v1", "no")
    assert [row["breaker"]["admitted"] for row in result.report.targets] == [1, 1]


def test_the_same_answer_goes_on_at_another_target() -> None:
    first = AskedBackend([[OPENED, *text(PROSE[:20])], AuthFailed("no")])
    second = AskedBackend(answered(PROSE[20:]), detected=Detected("vllm"))
    result = run(first, fallbacks=[other(second)], deterministic=True)
    assert (result.report.text, result.report.exit_code) == (PROSE, 0)
    assert types(result.events) == [
        *("Opened", "TextDelta", "Interrupted", "FellBack", "Opened", "Resumed", "TextDelta", "Finished")
    ]
    assert last_of(result, Resumed).strategy == "prefill"
    assert second.requests[0].extra_body == {"continue_final_message": True, "add_generation_prompt": False}


def test_attempts_count_anew_at_the_next_target() -> None:
    down = ServerFailure("503")
    result = run(MockBackend(*[down] * 3), fallbacks=[other(MockBackend(down, down, answered("Hi")))])
    assert (result.report.text, result.report.exit_code) == ("Hi", 0)
    assert result.report.metrics["retries"] == 4
    assert result.report.metrics["fallbacks"] == 1
    assert result.report.metrics["attempts"] == 6


def test_where_no_target_answers_the_flow_ends_as_unavailable() -> None:
    result = run(MockBackend(AuthFailed("no")), fallbacks=[other(MockBackend(AuthFailed("neither")))])
    assert (result.report.outcome, result.report.exit_code) == ("unavailable", 77)
    assert result.report.error is not None
    assert result.report.error.message == "neither"


def test_a_fallback_is_asked_with_its_own_defaults_and_the_users_parameters() -> None:
    second = AskedBackend(answered("Hi"))
    defaults = Parameters(temperature=0.2, max_tokens=512, seed=1)
    run(
        MockBackend(AuthFailed("no")),
        fallbacks=[other(second, defaults=defaults)],
        parameters=Parameters(temperature=0.9, stop=("x",)),
    )
    assert second.requests[0].parameters == Parameters(0.9, 512, 1, ("x",))


# -- breaker and limiter ---------------------------------------------------------------------------------------------


def test_an_open_breaker_is_told_and_the_next_target_asked_at_once() -> None:
    breaker = Breaker(failure_threshold=2, open_s=10.0)
    backend = MockBackend(*[Unreachable("refused")] * 2)
    result = run(backend, breaker=breaker, fallbacks=[other(MockBackend(answered("Hi")))])
    assert result.report.text == "Hi"
    change = last_of(result, BreakerChanged)
    assert (change.target, change.before, change.after) == ("test-model at http://x/v1", "closed", "open")
    assert change.open_for_s == pytest.approx(10.0)
    assert result.report.metrics["breaker_changes"] == 1
    assert types(result.events)[:3] == ["Retrying", "BreakerChanged", "FellBack"]


def test_a_server_that_asks_for_a_pause_is_asked_after_it_and_counts_as_healthy() -> None:
    breaker = Breaker(failure_threshold=1)
    busy = RateLimited("busy", retry_after_s=0.02)
    result = run(MockBackend(busy, answered("Hi")), breaker=breaker)
    assert result.report.text == "Hi"
    assert breaker.statistics().rate_limited == 1
    assert not any(isinstance(event, BreakerChanged) for event in result.events)


def test_a_cooldown_of_the_target_is_no_broken_target() -> None:
    breaker = Breaker()
    permit: Any = breaker.admit(0.0)
    import time

    permit.cool_down(time.monotonic(), 100.0)
    result = run(MockBackend(), breaker=breaker)
    assert (result.report.exit_code, result.report.error.code if result.report.error else "") == (75, "rate_limited")


def test_the_child_that_died_is_asked_again() -> None:
    result = run(
        MockBackend([[OPENED, *text("One ")], EmbeddedModelDied("killed")], answered("One two")), deterministic=True
    )
    assert (result.report.text, result.report.exit_code) == ("One two", 0)


def test_the_limiter_is_settled_with_usage_and_gets_back_what_was_never_sent() -> None:
    limiter = Limiter(Limits(600, 60_000))
    first = other(
        MockBackend(Unreachable("refused"), [[OPENED, *text("Hi")], [Usage(3, 4, 7), STOP]]),
        limiter=SharedLimiter(limiter),
    )
    result = run(MockBackend(AuthFailed("no")), fallbacks=[first])
    assert result.report.text == "Hi"
    figures = limiter.statistics()
    assert (figures.granted, figures.cancelled, figures.settled, figures.used_tokens) == (2, 1, 1, 7)
    assert result.report.targets[1]["limiter"]["granted"] == 2


# -- loops and adaptation --------------------------------------------------------------------------------------------

SENTENCE = "It is what it is, and there is more of it to come. "
LOOP = [f"{word} " for word in (SENTENCE * 12).split()]


def test_a_loop_is_only_flagged_unless_adapting_is_asked_for() -> None:
    result = run(MockBackend([[OPENED], *[text(word) for word in LOOP], [STOP]]), capabilities=PREFILL)
    assert result.report.text == "".join(LOOP)
    flags = [event for event in result.events if isinstance(event, Flagged)]
    assert [flag.rule for flag in flags] == ["repetition"]
    assert not any(isinstance(event, Adapted) for event in result.events)


def test_an_adapting_flow_cuts_a_loop_and_goes_on_from_before_it() -> None:
    start = "There was a wise man who was asked about life. "
    words = [f"{word} " for word in start.split()] + LOOP
    backend = AskedBackend([[OPENED], *[text(word) for word in words], [STOP]], answered(" Then he went home."))
    given = Parameters(temperature=0.2, seed=4)
    result = run(backend, capabilities=PREFILL, adaptation=Adaptation(), parameters=given)
    assert result.report.exit_code == 0
    assert result.report.text.startswith(start + SENTENCE)
    assert result.report.text.endswith("\n Then he went home.")
    assert result.report.text.count(SENTENCE) <= 8
    adapted = next(event for event in result.events if isinstance(event, Adapted))
    assert (adapted.what, adapted.before, adapted.after) == (
        "sampling",
        "temperature 0.2, seed 4",
        "temperature 0.7, seed 5",
    )
    partial = backend.requests[1].messages()[-1]["content"]
    assert partial == start.rstrip()
    assert (backend.requests[1].parameters.temperature, backend.requests[1].parameters.seed) == (0.7, 5)
    assert types(result.events)[-4:] == ["Opened", "Resumed", "TextDelta", "Finished"]
    assert backend.is_all_closed


def test_a_loop_in_a_structured_answer_is_not_cut() -> None:
    schema = Parameters(response_format={"type": "json_object"})
    backend = MockBackend([[OPENED], *[text(word) for word in LOOP], [STOP]])
    result = run(backend, capabilities=PREFILL, adaptation=Adaptation(), parameters=schema)
    assert result.report.text == "".join(LOOP)


def observed(first_content_s: float, *, count: int = 40, tokens_per_s: float = 50.0) -> Observations:
    known = Observations()
    for _ in range(count):
        known.first_content_s.observe(first_content_s)
        known.tokens_per_s.observe(tokens_per_s)
        known.prompt_chars.observe(7.0)
    return known


def test_an_adapting_flow_waits_no_longer_than_is_usual_but_for_its_last_chance() -> None:
    backend = AskedBackend(BROKE, answered("Hi"))
    upstream = other(backend, observed=observed(0.7))
    result = run(
        MockBackend(AuthFailed("no")), fallbacks=[upstream], adaptation=Adaptation(), retries=1, deadline_s=60.0
    )
    assert result.report.text == "Hi"
    told = [event for event in result.events if isinstance(event, Adapted)]
    assert [(event.what, event.before) for event in told] == [("first-token deadline", "60 s")]
    started_s = result.context.started_s
    waits = [deadline_s - started_s for deadline_s in backend.deadlines if deadline_s is not None]
    assert waits == [pytest.approx(2.1, abs=0.5), pytest.approx(60.0, abs=0.5)]


def test_a_long_prompt_is_given_more_time() -> None:
    backend = AskedBackend(answered("Hi"))
    upstream = other(backend, observed=observed(0.7))
    run(
        *(MockBackend(AuthFailed("no")),),
        fallbacks=[upstream],
        adaptation=Adaptation(),
        retries=1,
        deadline_s=60.0,
        prompt="x" * 4000,
    )
    assert upstream.deadlines is not None
    assert upstream.deadlines.first_token_s == pytest.approx(21.0, rel=0.05)


def test_deadlines_never_exceed_what_a_request_allows() -> None:
    backend = AskedBackend(answered("Hi"))
    upstream = other(backend, observed=observed(10.0), deadlines=Deadlines(first_token_s=29.0))
    run(MockBackend(AuthFailed("no")), fallbacks=[upstream], adaptation=Adaptation(), deadline_s=25.0)
    assert upstream.deadlines is not None
    assert upstream.deadlines.first_token_s == pytest.approx(25.0)


def test_an_adapting_flow_asks_the_fastest_target_first() -> None:
    slow, fast = MockBackend(), MockBackend(answered("Hi", by="fast at http://y/v1"))
    first = Upstream(Target("http://x/v1", "slow"), slow, observed=observed(5.0))
    second = Upstream(Target("http://y/v1", "fast"), fast, observed=observed(0.1))
    result = run_chain([first, second], Adaptation())
    assert result.report.text == "Hi"
    assert next(event.what for event in result.events if isinstance(event, Adapted)) == "order of targets"
    assert result.report.model_used == "m"
    assert result.report.target == "fast at http://y/v1"


def run_chain(upstreams: list[Upstream], adaptation: Adaptation | None) -> FlowRun:
    return run_flow("http://x/v1", upstreams=upstreams, adaptation=adaptation, retries=1)


def test_where_the_breaker_ends_the_attempts_what_failed_is_told() -> None:
    result = run(MockBackend(*[Unreachable("refused")] * 2), breaker=Breaker(failure_threshold=2, open_s=10.0))
    assert (result.report.exit_code, result.report.outcome) == (69, "unavailable")
    assert result.report.error is not None
    assert result.report.error.message == "refused"
    assert "left alone for 10 s" in result.report.error.hint


def test_tokens_of_text_that_may_have_more_of_them_than_were_named_are_estimated() -> None:
    smiles = [TextDelta("😀", (TokenLogprob("😀", -0.1),)) for _ in range(3)]
    backend = AskedBackend([[OPENED, *smiles], BROKE], answered("😀"))
    result = run(backend, capabilities=PREFILL, parameters=Parameters(max_tokens=3))
    assert (result.report.finish_reason, result.report.exit_code) == ("stop", 0)
    assert len(backend.requests) == 2


def test_nobody_waits_for_an_attempt_that_the_breaker_will_refuse() -> None:
    backend = AskedBackend(*[ServerFailure("503")] * 2)
    result = run(backend, breaker=Breaker(failure_threshold=2, open_s=10.0), retries=9)
    assert types(result.events) == ["Retrying", "BreakerChanged", "Aborted"]
    assert result.report.metrics["attempts"] == 2
    assert len(backend.requests) == 2


def test_a_run_that_waits_too_little_says_nothing_about_the_target() -> None:
    for deadline_s, failed in ((1.0, 0), (60.0, 1)):
        breaker = Breaker()
        run(MockBackend(FirstTokenTimeout("late")), breaker=breaker, retries=0, deadline_s=deadline_s)
        assert breaker.statistics().failed == failed


def test_a_continuation_that_proves_nothing_is_shown_and_flagged() -> None:
    refusal = " I am sorry, but I cannot go on with that."
    backend = AskedBackend([[OPENED, *text(PROSE[:20])], BROKE], answered(refusal))
    result = run(backend, capabilities=WORDS)
    assert result.report.exit_code == 0
    assert [event.rule for event in result.events if isinstance(event, Flagged)] == ["unproved_seam"]


def test_a_server_that_writes_nothing_when_it_is_asked_to_go_on_has_not_finished_the_answer() -> None:
    nothing = [[OPENED], [STOP]]
    result = run(AskedBackend([[OPENED, *text(PROSE[:20])], BROKE], nothing, nothing), capabilities=WORDS)
    assert (result.report.exit_code, result.report.text) == (3, PROSE[:20])


def test_why_another_target_answers_says_if_that_was_asked_for() -> None:
    cause = AuthFailed("no", simulated=True)
    result = run(MockBackend(cause), fallbacks=[other(MockBackend(answered("Hi")))])
    assert last_of(result, FellBack).cause == "no (simulated)"
