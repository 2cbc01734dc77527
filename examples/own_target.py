"""Targets and breaker settings of your own: a server that is down, then the one that answers instead.

    python examples/own_target.py [BASE_URL MODEL]

Without arguments the embedded model stands in. The first target's breaker opens at the second failure, so the third
question does not wait for it any more.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
if find_spec("openai") is None:
    sys.exit("error: this Python has no packages\nhint: use .venv/bin/python, which `make run` makes")

from flow import create_streaming_graph, run_streaming_graph
from utils.embedded_model.backend import EmbeddedBackend
from utils.guardrails.policy import compile_rules
from utils.guardrails.prompt_guard import PromptLimits, PromptPolicy
from utils.library import new_run
from utils.openai_stream import OpenAIBackend
from utils.resilience.breaker import Breaker
from utils.resilience.breaker_policy import BreakerPolicy
from utils.resilience.resilient_stream import Opener
from utils.resilience.retry_policy import RetryPolicy
from utils.resilience.upstream import Upstream
from utils.run_context import EMBEDDED, Parameters, Target

DOWN = "http://127.0.0.1:9/v1"
QUESTIONS = ("Name a river.", "Name a mountain.", "Name a city.")


def second() -> tuple[Target, OpenAIBackend | EmbeddedBackend, Parameters]:
    """Who answers when the first one does not, and what is sent where a request says nothing."""
    if len(sys.argv) > 2:
        url, model = sys.argv[1], sys.argv[2]
        return Target(url, model), OpenAIBackend(base_url=url, api_key=None), Parameters()
    embedded = Target(EMBEDDED, "smollm2-135m-instruct", is_deterministic=True)
    return embedded, EmbeddedBackend(), Parameters(temperature=0.2, max_tokens=30, seed=1)


async def main() -> int:
    """Ask three questions; the exit code of the last answer."""
    down = OpenAIBackend(base_url=DOWN, api_key=None, connect_timeout_s=2.0)
    impatient = Breaker(BreakerPolicy(failure_threshold=2, open_s=60.0))
    target, backend, defaults = second()
    chain = [Upstream(Target(DOWN, "big"), down, impatient), Upstream(target, backend, defaults=defaults)]
    opener = Opener(chain, RetryPolicy(retries=1))
    rules = compile_rules(("secrets",))
    policy = PromptPolicy(PromptLimits(chars=10_000), secrets=rules, advisory=compile_rules(()))
    graph = create_streaming_graph(opener, prompt=policy)
    code = 0
    try:
        for question in QUESTIONS:
            run_input, recorder = new_run(question, on_text=lambda text: print(text, end="", flush=True))
            report = await run_streaming_graph(graph, run_input, recorder)
            code = report.exit_code
            print(f"\n  {report.outcome} by {report.target} at attempt {report.metrics['attempts']}", end="; ")
            print(f"the breaker of {chain[0].target.model!r} is {impatient.statistics().state.value}")
    finally:
        await down.aclose()
        await backend.aclose()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
