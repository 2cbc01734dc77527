"""`completion`: the script that lets a shell complete our commands, options and values.

The program is typed as `python main.py`, which no shell can complete. So the script defines the word `kaygraph` for it,
with this Python and this file, and completes that. What can be completed is asked of the program itself.
"""

from __future__ import annotations

import os
import shlex
import sys

import click

__all__ = ["command"]

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_BASH = """\
{name}() {{ {program} "$@"; }}
_{name}_complete() {{
    local IFS=$'\\n' kind value
    COMPREPLY=()
    while IFS=',' read -r kind value; do
        case $kind in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_WORDS="${{COMP_WORDS[*]}}" COMP_CWORD=$COMP_CWORD {variable}=bash_complete {program})
}}
complete -o nosort -F _{name}_complete {name}
"""
_ZSH = """\
{name}() {{ {program} "$@" }}
_{name}_complete() {{
    local -a plain described
    local kind value help
    while IFS= read -r kind && IFS= read -r value && IFS= read -r help; do
        case $kind in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain) if [[ $help == _ ]]; then plain+=("$value"); else described+=("${{value//:/\\\\:}}:$help"); fi ;;
        esac
    done < <(COMP_WORDS="${{words[*]}}" COMP_CWORD=$((CURRENT-1)) {variable}=zsh_complete {program})
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
}}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
compdef _{name}_complete {name}
"""
_FISH = """\
function {name}; {program} $argv; end
function _{name}_complete
    set -l kind
    for line in (COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) {variable}=fish_complete {program})
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --command {name} --arguments '(_{name}_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(list(_SCRIPTS)), required=False)
@click.option("--name", default="kaygraph", show_default=True, help="The word that stands for the program.")
def command(shell: str | None, name: str) -> None:
    """Print what lets a shell complete commands, options and values.

    It defines a word for the program and completes it. Without SHELL, the one in $SHELL.

    \b
    Examples:
      eval "$(python main.py completion bash)"        in ~/.bashrc
      source <(python main.py completion zsh)         in ~/.zshrc
      python main.py completion fish | source         in ~/.config/fish/config.fish
    """
    from utils.errors import UsageProblem

    chosen = shell or os.path.basename(os.environ.get("SHELL", ""))
    if chosen not in _SCRIPTS:
        raise UsageProblem(f"no completion for the shell {chosen!r}", hint=f"name one of {', '.join(_SCRIPTS)}")
    if not (name.isascii() and name.isidentifier()):
        raise UsageProblem(f"--name {name!r} cannot be the name of a function", hint="letters, digits and _")
    program = f"{shlex.quote(sys.executable)} {shlex.quote(os.path.join(_ROOT, 'main.py'))}"
    click.echo(_SCRIPTS[chosen].format(name=name, program=program, variable="_KAYGRAPH_COMPLETE"), nl=False)
