"""The script for fish, which shows help beside each option."""

from collections.abc import Iterator

from engine.completion.commands import Command, Option

_BEGIN = """\
# How fish completes lockstep; made by: lockstep completion fish
function __lockstep_in -d 'Whether the line begins with lockstep and these words'
    set -l words (commandline -opc)
    set -l last (math (count $argv) + 1)
    test (count $words) -ge $last; or return 1
    test $last -eq 1; or test "$words[2..$last]" = "$argv"
end
function __lockstep_ends -d 'Whether the line is lockstep and these words so far'
    test (count (commandline -opc)) -eq (math (count $argv) + 1); and __lockstep_in $argv
end
complete -c lockstep -e"""


def fish_script(whole: Command) -> str:
    """Return the script."""
    return "\n".join([_BEGIN, *_lines(whole, ())]) + "\n"


def _lines(node: Command, words: tuple[str, ...]) -> Iterator[str]:
    place = " ".join(words)
    for each in node.commands:
        condition = _quoted(f"__lockstep_ends {place}".strip())
        yield f"complete -c lockstep -n {condition} -f -a {each.name} -d {_quoted(each.help)}"
        yield from _lines(each, (*words, each.name))
    if not node.commands:
        condition = _quoted(f"__lockstep_in {place}")
        if node.values:
            yield f"complete -c lockstep -n {condition} -a {_quoted(' '.join(node.values))}"
        yield from (f"complete -c lockstep -n {condition} {_option(each)}" for each in node.options)


def _option(option: Option) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    takes = ("-r" if option.files else "-x") if option.metavar else "-f"
    values = f" -a {_quoted(' '.join(option.values))}" if option.values else ""
    return f"{' '.join(names)} {takes}{values} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
