"""Reads the same answer with one client library, again and again: run by compare_clients.py in that library's Python.

    python read_answers.py NAME URL CHUNKS ROUNDS    -> JSON: CPU microseconds per chunk, the first round left out

Every reader does the least that its documentation shows for streaming text. No import of this project.
"""

import asyncio
import json
import sys
import time

MODEL = "bench-model"
MESSAGES = [{"role": "user", "content": "Count."}]


def _openai(url):
    import openai

    client = openai.AsyncOpenAI(api_key="none", base_url=url)

    async def read():
        parts = []
        async for chunk in await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                parts.append(chunk.choices[0].delta.content)
        return "".join(parts)

    return read


def _litellm(url):
    import litellm

    litellm.suppress_debug_info = True

    async def read():
        parts = []
        stream = await litellm.acompletion(
            model=f"openai/{MODEL}", messages=MESSAGES, stream=True, api_base=url, api_key="none"
        )
        async for chunk in stream:
            parts.append(chunk.choices[0].delta.content or "")
        return "".join(parts)

    return read


def _langchain(url):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, base_url=url, api_key="none")

    async def read():
        return "".join([chunk.content async for chunk in model.astream("Count.")])

    return read


def _pydantic_ai(url):
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    agent = Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=url, api_key="none")))

    async def read():
        async with agent.run_stream("Count.") as result:
            return "".join([piece async for piece in result.stream_text(delta=True, debounce_by=None)])

    return read


def _llm(url):
    import llm
    from llm.default_plugins.openai_models import AsyncChat

    model = AsyncChat(MODEL, model_name=MODEL, api_base=url)
    model.key = "none"

    async def read():
        return "".join([piece async for piece in model.prompt("Count.")])

    assert llm
    return read


READERS = {
    "openai": _openai,
    "litellm": _litellm,
    "langchain-openai": _langchain,
    "pydantic-ai": _pydantic_ai,
    "llm": _llm,
}


async def main():
    name, url, chunks, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    read, times, length = READERS[name](url), [], None
    for _ in range(rounds + 1):
        started = time.process_time()
        text = await read()
        times.append((time.process_time() - started) / chunks * 1e6)
        assert length in (None, len(text)), "another text"
        length = len(text)
    print(json.dumps({"length": length, "us": times[1:]}))


asyncio.run(main())
