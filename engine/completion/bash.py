"""The script for bash, 3.2 or newer."""

from collections.abc import Iterable, Iterator
from shlex import quote

from engine.completion.commands import Command, Option

_BEGIN = """\
# How bash completes lockstep; made by: lockstep completion bash
_lockstep() {
    local word=${COMP_WORDS[COMP_CWORD]} last=$COMP_CWORD head= before at=1 command= words= options=
    COMPREPLY=()
    if [[ $word == : ]]; then  # bash takes name:rest for three words
        ((last -= 1))
        head=${COMP_WORDS[last]}: word=
    elif [[ ${COMP_WORDS[last - 1]} == : ]]; then
        ((last -= 2))
        head=${COMP_WORDS[last]}:
    fi
    before=${COMP_WORDS[last - 1]}
    if [[ $word == = ]]; then  # and so --option=value
        word=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[last - 2]}
    fi
    while true; do
        case $command in"""

_MIDDLE = """\
            *) break ;;
        esac
        ((COMP_CWORD == at)) && break
        words= command+=" ${COMP_WORDS[at]}"
        ((at++))
    done
    case $command in"""

_END = """\
    esac
    if [[ $words == - ]]; then  # a value that is no file
        compopt +o default +o bashdefault 2>/dev/null
        return
    fi
    [[ $word == -* ]] && words=$options
    COMPREPLY=($(compgen -W "$words" -- "$head$word"))
    COMPREPLY=(${COMPREPLY[@]#"$head"})
}
complete -o bashdefault -o default -F _lockstep lockstep
"""


def bash_script(whole: Command) -> str:
    """Return the script."""
    nodes = list(_all(whole, ""))
    inner = (
        f"            {quote(path)}) words={_list(each.name for each in node.commands)} ;;"
        for path, node in nodes
        if node.commands
    )
    leaves = (line for path, node in nodes if not node.commands for line in _leaf(path, node))
    return "\n".join([_BEGIN, *inner, _MIDDLE, *leaves, _END])


def _all(node: Command, path: str) -> Iterator[tuple[str, Command]]:
    """Yield a command and those inside it, each with its words as the script writes them: " data check"."""
    yield path, node
    for each in node.commands:
        yield from _all(each, f"{path} {each.name}")


def _leaf(path: str, node: Command) -> Iterator[str]:
    yield f"        {quote(path)})"
    yield "            case $before in"
    plain = [option for option in node.options if option.metavar and not option.values]
    for option in node.options:
        if option.values:
            yield f"                {_names([option])}) words={_list(option.values)} ;;"
    for files, words in ((True, "''"), (False, "-")):
        if some := [option for option in plain if option.files == files]:
            yield f"                {_names(some)}) words={words} ;;"
    options = _list(name for option in node.options for name in option.names)
    yield f"                *) words={_list(node.values)} options={options} ;;"
    yield "            esac ;;"


def _names(options: Iterable[Option]) -> str:
    return " | ".join(name for option in options for name in option.names)


def _list(words: Iterable[str]) -> str:
    return quote(" ".join(words))
