"""`--continue` and `--cid`: the conversation to go on with, from the history."""

from __future__ import annotations

import secrets

from utils.conversation import Conversation, Window
from utils.errors import UsageProblem
from utils.history import History, history_path
from utils.render.figures import counted

__all__ = ["continued", "left_out_note", "new_conversation_id"]

_HINT = "--log-text keeps the conversations of later runs; /load reads a saved one"


def continued(*, newest: bool | None, cid: str | None) -> tuple[str, Conversation] | None:
    """The conversation that was asked for and its id; None if none was. Raises UsageProblem if there is no such one."""
    if not newest and cid is None:
        return None
    if cid is not None and not cid.strip():
        raise UsageProblem("--cid is empty", hint="give the first characters of an id, or --continue")
    path = history_path()
    if path is None:
        raise UsageProblem("there is no history to continue: no home directory", hint="set KAYGRAPH_STATE_DIR")
    with History(path) as history:
        found = history.conversation(cid)
        warning = (history.take_warning() or "").removesuffix("; this run is not recorded")
    if found is None:
        what = "no conversation was kept" if cid is None else f"no kept conversation begins with {cid[:40]!r}"
        raise UsageProblem(f"{what}{f' ({warning})' if warning else ''}", hint=_HINT)
    return found


def new_conversation_id() -> str:
    """An id that no other conversation has."""
    return secrets.token_hex(6)


def left_out_note(window: Window) -> str | None:
    """What the user should know about a window that does not hold the whole conversation."""
    if not window.left_out:
        return None
    return f"{counted(window.left_out, 'earlier exchange')} left out: the model's context holds no more"
