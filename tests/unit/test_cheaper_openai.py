"""The cheaper import of the SDK: less is loaded, and whoever asks for a model gets what there always was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = "from utils.cheaper_openai import make_import_cheaper; make_import_cheaper(); import openai, sys\n"


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_most_modules_of_models_and_aiohttp_are_not_imported() -> None:
    count = "print(sum(name.startswith('openai.types') for name in sys.modules), sys.modules.get('aiohttp'))"
    usual, _ = python(f"import openai, sys; {count}").split(maxsplit=1)
    few, aiohttp = python(f"{START}{count}").split(maxsplit=1)
    assert int(usual) > 400
    assert int(few) < 100
    assert aiohttp == "None"


WAYS = (
    "print(openai.types.Completion.__name__, openai.types.chat.ChatCompletionChunk.__name__)",
    "from openai.types import Completion\nfrom openai.types.chat import ChatCompletionChunk\n"
    "print(Completion.__name__, ChatCompletionChunk.__name__)",
    "from openai.types import *\nfrom openai.types.chat import *\n"
    "print(Completion.__name__, ChatCompletionChunk.__name__)",
    "import openai.types.chat as chat\nimport openai.types.completion as completion\n"
    "print(completion.Completion.__name__, chat.ChatCompletionChunk.__name__)",
)
NO_SUCH_NAME = "try: openai.types.no_such_name\nexcept AttributeError as error: print(error)"
THREADS = (
    "import threading\nsys.setswitchinterval(1e-6)\ngate = threading.Barrier(8)\nfound = []\n"
    "def ask():\n    gate.wait()\n    found.append(openai.types.Completion.__name__)\n"
    "threads = [threading.Thread(target=ask) for _ in range(8)]\n"
    "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
    "print(found.count('Completion'))"
)
FORKED = """
import os
for code in CODES:
    if not os.fork():
        exec(code, {"openai": openai, "sys": sys})
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What each of these prints after the cheaper import: a process of its own for each, but the import only once."""
    codes = (*WAYS, NO_SUCH_NAME, THREADS)
    return dict(zip(codes, python(f"{START}CODES = {codes!r}{FORKED}").splitlines(), strict=True))


@pytest.mark.parametrize("code", WAYS)
def test_a_model_is_there_whichever_way_it_is_asked_for(said: dict[str, str], code: str) -> None:
    assert said[code] == "Completion ChatCompletionChunk"


def test_all_names_are_those_of_the_usual_import() -> None:
    names = (
        "import pkgutil, types\n"
        "packages = ['openai.types'] + ["
        "'openai.types.' + found.name for found in pkgutil.iter_modules(openai.types.__path__) if found.ispkg]\n"
        "import importlib\n"
        "for name in packages:\n"
        "    module = importlib.import_module(name)\n"
        "    try: module.no_such_name\n"
        "    except AttributeError: pass\n"
        "    print(name, sorted(key for key, value in vars(module).items()"
        " if key[0] != '_' and not isinstance(value, types.ModuleType)))\n"
    )
    assert python(START + names) == python("import openai\n" + names)


def test_a_name_that_is_missing_is_an_error_that_names_it(said: dict[str, str]) -> None:
    assert said[NO_SUCH_NAME] == "module 'openai.types' has no attribute 'no_such_name'"


def test_threads_that_ask_at_once_all_get_an_answer(said: dict[str, str]) -> None:
    assert said[THREADS] == "8"


def test_it_does_nothing_where_the_sdk_is_there_already() -> None:
    code = (
        "import sys, openai, aiohttp\nfinders = list(sys.meta_path)\n"
        "from utils.cheaper_openai import make_import_cheaper\nmake_import_cheaper()\n"
        "print(sys.meta_path == finders, sys.modules['aiohttp'] is aiohttp)"
    )
    assert python(code) == "True True"


def test_a_second_call_changes_nothing() -> None:
    assert python(f"{START.replace('make_import_cheaper();', 'make_import_cheaper(); make_import_cheaper();')}"
                  "print(sum('Models' in type(finder).__name__ for finder in sys.meta_path))") == "1"  # fmt: skip
