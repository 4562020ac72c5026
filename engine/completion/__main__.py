"""The command ``python -m engine.completion``: scripts by which shells complete the command lockstep."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import sys
from collections.abc import Sequence

from comm import terminal
from engine.config.command_line import Parser
from engine.host.stop_signals import listening

SHELLS = ("bash", "zsh", "fish")

_EPILOG = """\
Write it once to where the shell looks, and again after an upgrade:

  lockstep completion bash > ~/.local/share/bash-completion/completions/lockstep
  lockstep completion zsh > ~/.zfunc/_lockstep       with fpath=(~/.zfunc $fpath) before compinit in ~/.zshrc
  lockstep completion fish > ~/.config/fish/completions/lockstep.fish

(bash reads that folder where the package bash-completion is installed; else: source the file in ~/.bashrc.)
New shells then complete commands, options and their choices, recipes, networks, clusters, and files.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.completion",
        description="Print a script by which a shell completes the command lockstep.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", choices=SHELLS, help="which shell")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    from engine.completion.bash import bash_script  # noqa: PLC0415 -- after --help: it asks all commands
    from engine.completion.commands import lockstep  # noqa: PLC0415 -- as above
    from engine.completion.fish import fish_script  # noqa: PLC0415 -- as above
    from engine.completion.zsh import zsh_script  # noqa: PLC0415 -- as above

    script = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}[options.shell]
    terminal.show(script(lockstep()).rstrip("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
