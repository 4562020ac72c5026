"""The command ``lockstep``: one name for all commands, wherever it is called."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from comm import terminal
from engine.host.beginning import begin

COMMANDS = {
    "train": ("engine.train", "train a network, alone or under mpirun or srun"),
    "run": ("engine.run.__main__", "train on several ranks, which it starts and ends"),
    "rates": ("engine.rates", "find a learning rate: let it rise over some steps until the loss diverges"),
    "data": (
        "engine.data.__main__",
        "check: read every sample of a data set once, before training does; align: label frames of speech",
    ),
    "show": ("engine.show", "say what a checkpoint is, or a run with its checkpoints"),
    "evaluate": ("engine.evaluate", "say how good a trained network is on a data set"),
    "predict": ("engine.predict", "say which classes a trained network finds in images"),
    "compare": ("engine.compare", "say whether two trained networks are the same to the bit"),
    "audit": ("engine.audit", "compute a step of a run again, and compare the hash of its weights"),
    "models": ("engine.networks", "list the networks that come along: parameters, arithmetic, memory"),
    "plan": ("engine.plan", "predict how fast a network trains on some nodes, and find the best plan"),
    "doctor": ("engine.doctor.__main__", "say whether this machine is ready to train, and what to mend"),
    "completion": (
        "engine.completion.__main__",
        "print a script by which bash, zsh or fish completes this command",
    ),
    "cache": ("engine.cache", "show the compiled kernels on disk, or remove them"),
    "report": (
        "engine.report.__main__",
        "look at runs: curves and where the time went, as one page, live or as text",
    ),
    "export": ("engine.export", "write a trained network as ONNX, or its weights for PyTorch"),
    "convert": ("engine.convert", "read weights of PyTorch or safetensors by the names of a network"),
    "explain": ("engine.explain", "say where the time of a run went, from its folder or its trace"),
}
"""Module and help of each command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``lockstep COMMAND ...``; return the exit code."""
    if arguments is None:  # not called by another program
        begin()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        terminal.show(_usage())
        return 0
    if given[0] not in COMMANDS:
        from engine.config.command_line import Parser  # noqa: PLC0415 -- with the hint for misspelt names

        parser = Parser(prog="lockstep", add_help=False)
        parser.add_argument("command", choices=COMMANDS)
        parser.parse_args(given[:1])
    command: Callable[[Sequence[str]], int] = import_module(COMMANDS[given[0]][0]).main
    return command(given[1:])


def _usage() -> str:
    rows = [f"  lockstep {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: lockstep COMMAND ...",
            "",
            "Synchronous SGD for CPU clusters: every rank in step, to the bit.",
            "",
            *rows,
            "",
            "lockstep COMMAND --help tells more; python -m engine.COMMAND is the same.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
