"""The script for zsh, which shows help beside each option."""

import re
from collections.abc import Iterable, Iterator
from shlex import quote

from engine.completion.commands import Command, Option

_END = """\
if [[ $funcstack[1] == _lockstep ]]; then  # a file of fpath, read when it is first needed
    _lockstep "$@"
else
    compdef _lockstep lockstep
fi
"""


def zsh_script(whole: Command) -> str:
    """Return the script."""
    heading = ["#compdef lockstep", "# How zsh completes lockstep; made by: lockstep completion zsh"]
    return "\n".join([*heading, *_functions(whole, "_lockstep"), _END])


def _functions(node: Command, name: str) -> Iterator[str]:
    for each in node.commands:
        yield from _functions(each, f"{name}_{each.name}")
    yield f"{name}() {{"
    yield from _choice(node, name) if node.commands else _arguments(node)
    yield "}"


def _choice(node: Command, name: str) -> Iterator[str]:
    """Yield what completes a command's name, and passes on the words behind it."""
    yield "    local -a commands=("
    yield from (f"        {quote(f'{each.name}:{each.help}')}" for each in node.commands)
    yield "    )"
    yield "    if (( CURRENT == 2 )); then"
    yield "        _describe command commands"
    yield f"    elif (( $+functions[{name}_$words[2]] )); then"
    yield "        shift words"
    yield "        (( CURRENT-- ))"
    yield f"        {name}_$words[1]"
    yield "    fi"


def _arguments(node: Command) -> Iterator[str]:
    yield "    _arguments \\"
    for option in node.options:
        yield from (f"        {quote(_specification(option, name))} \\" for name in option.names)
    names = f"compadd -- {_list(node.values)}; " if node.values else ""
    yield f"        {quote(f'*: :{{{names}_files}}')}"


def _specification(option: Option, name: str) -> str:
    """Return what _arguments is told of an option: --name=[help]:what it takes:how that is completed."""
    takes = "=" if option.metavar and name.startswith("--") else ""
    text = f"*{name}{takes}[{_escaped(option.help)}]"
    if not option.metavar:
        return text
    return f"{text}:{_escaped(option.metavar)}:{_action(option)}"


def _action(option: Option) -> str:
    if not option.values:
        return "_files" if option.files else " "
    if option.files:
        return f"{{compadd -- {_list(option.values)}; _files}}"
    return f"({_list(option.values)})"


def _list(values: Iterable[str]) -> str:
    return _escaped(" ".join(values))


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)
