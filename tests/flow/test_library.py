"""The flow as another program uses it: settings by name, text that is pulled, nodes of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from flow import StreamingFlow, ask
from nodes import StreamStage
from tests.support import wire
from tests.support.scripted_server import ScriptedServer, Send, WaitForClientClose, wait_until
from utils.errors import AppError
from utils.events import Event, Finished, TextDelta
from utils.run_context import EventStream, Message

T = TypeVar("T")
WORDS = ("One ", "two ", "three.")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAYGRAPH_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def answer(*words: str) -> list[Any]:
    events = wire.sse(*(wire.delta(word) for word in words), wire.finish(), wire.usage(9, len(words)), wire.DONE)
    return [Send(wire.stream_response(events))]


def endless(words: int) -> list[Any]:
    events = wire.sse(*(wire.delta(f"word{n} ") for n in range(words)))
    return [Send(wire.head() + wire.chunk(events)), WaitForClientClose()]


def using(
    scripts: list[list[Any]], work: Callable[[StreamingFlow], Awaitable[T]], **more: Any
) -> tuple[T, ScriptedServer]:
    with ScriptedServer(scripts) as server:

        async def main() -> T:
            async with StreamingFlow(base_url=server.base_url, model="m", **more) as flow:
                return await work(flow)

        result = asyncio.run(main())
        wait_until(lambda: not server.open_connections())
        return result, server


def test_text_and_events_come_as_they_are_shown_and_the_report_says_the_rest() -> None:
    texts: list[str] = []
    kinds: list[str] = []

    async def work(flow: StreamingFlow) -> Any:
        return await flow.run(
            "?",
            system="Be brief.",
            earlier=[Message("user", "a"), Message("assistant", "b")],
            on_text=texts.append,
            on_event=lambda event, now: kinds.append(type(event).__name__),
        )

    report, server = using([answer(*WORDS)], work, temperature=0.5)
    assert (report.text, report.outcome, report.usage["completion_tokens"]) == ("One two three.", "complete", 3)
    assert "".join(texts) == report.text
    assert kinds[0] == "Opened"
    assert kinds[-1] == "Finished"
    body = server.requests[0].json
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "a", "b", "?"]
    assert body["temperature"] == 0.5


def test_runs_of_one_flow_may_go_on_at_once() -> None:
    async def work(flow: StreamingFlow) -> Any:
        return await asyncio.gather(*(flow.run("?") for _ in range(8)))

    reports, _ = using([answer(*WORDS)] * 8, work)
    assert {report.text for report in reports} == {"One two three."}


def test_text_that_is_pulled_is_all_of_it() -> None:
    async def work(flow: StreamingFlow) -> Any:
        async with flow.stream("?") as stream:
            pieces = [text async for text in stream]
        return pieces, stream.report

    (pieces, report), _ = using([answer(*(f"word{n} " for n in range(200)))], work)
    assert "".join(pieces) == report.text == "".join(f"word{n} " for n in range(200))
    assert report.outcome == "complete"


def test_leaving_a_stream_early_closes_the_connection_and_keeps_the_partial() -> None:
    async def work(flow: StreamingFlow) -> Any:
        async with flow.stream("?") as stream:
            async for text in stream:
                first = text
                break
        return first, stream.report

    (first, report), _ = using([endless(500)], work)
    assert (report.outcome, report.exit_code) == ("cancelled", 130)
    assert report.text.startswith(first)
    # The writer waited for its reader: the 500 words had come, and were not all taken.
    assert report.metrics["chunks"] < 100


def test_an_error_in_the_block_leaves_no_connection() -> None:
    async def work(flow: StreamingFlow) -> None:
        with pytest.raises(ZeroDivisionError):
            async with flow.stream("?") as stream:
                async for _ in stream:
                    raise ZeroDivisionError

    using([endless(50)], work)


def test_cancelling_the_task_closes_the_connection() -> None:
    async def work(flow: StreamingFlow) -> None:
        came = asyncio.Event()
        task = asyncio.create_task(flow.run("?", on_text=lambda text: came.set()))
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    using([endless(3)], work)


class Doubling(StreamStage):
    async def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        async for event in stream:
            yield event
            if isinstance(event, TextDelta):
                yield TextDelta(event.text)


class Naming(StreamStage):
    async def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        async for event in stream:
            yield TextDelta("bob@example.com ") if isinstance(event, TextDelta) else event


class First(StreamStage):
    async def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        async for event in stream:
            yield event
            if isinstance(event, TextDelta):
                yield Finished("enough")


class Failing(StreamStage):
    async def transform(self, stream: EventStream) -> AsyncGenerator[Event, None]:
        async for event in stream:
            yield event
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ([], [Doubling()], "One One two two three.three."),
        ([Doubling(), Doubling()], [], "One One One One two two two two three.three.three.three."),
        ([Naming()], [], "[EMAIL] [EMAIL] [EMAIL] "),
        ([], [Naming()], "bob@example.com bob@example.com bob@example.com "),
    ],
)
def test_a_stage_stands_where_it_was_put(before: list[StreamStage], after: list[StreamStage], text: str) -> None:
    async def work(flow: StreamingFlow) -> Any:
        return await flow.run("?")

    more = {"before_guards": before, "after_guards": after, "guard": ("pii",)}
    report, _ = using([answer(*WORDS)], work, **more)
    assert (report.text, report.outcome) == (text, "complete")


def test_a_stage_may_end_the_answer() -> None:
    async def work(flow: StreamingFlow) -> Any:
        return await flow.run("?")

    report, _ = using([endless(50)], work, after_guards=[First()])
    assert (report.text, report.finish_reason, report.exit_code) == ("word0 ", "enough", 0)


def test_a_stage_that_fails_is_a_bug_that_is_raised_and_leaves_no_connection() -> None:
    async def work(flow: StreamingFlow) -> Any:
        with pytest.raises(ZeroDivisionError):
            await flow.run("?")

    using([endless(50)], work, after_guards=[Failing()])


def test_without_an_event_loop() -> None:
    with ScriptedServer([answer(*WORDS)]) as server:
        report = ask("?", base_url=server.base_url, model="m")
    assert report.text == "One two three."


def test_what_cannot_be_used_is_an_error_and_what_is_no_setting_a_typeerror() -> None:
    with pytest.raises(AppError, match="temperature"):
        StreamingFlow(temperature=9.0)
    with pytest.raises(TypeError, match="'modle' is no setting; did you mean 'model'"):
        StreamingFlow(modle="m")


def test_nothing_but_our_variables_and_the_named_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    directory = tmp_path / ".config" / "kaygraph-streaming-llm"
    directory.mkdir(parents=True)
    (directory / "config.toml").write_text("temperature = 9.0\n")
    StreamingFlow()
    with pytest.raises(AppError, match="temperature"):
        StreamingFlow(config_file=directory / "config.toml")
    monkeypatch.setenv("KAYGRAPH_TEMPERATURE", "9")
    with pytest.raises(AppError, match="TEMPERATURE"):
        StreamingFlow()
