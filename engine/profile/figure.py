"""Write pictures to files, whose endings are checked before anything is drawn."""

from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.files import writing

KINDS = (".png", ".svg")


def figure_class(path: Path) -> Any:
    """Check a picture's ending and return matplotlib's figure class.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending.
    """
    if path.suffix not in KINDS:
        raise UserError(f"out: got {path}; must end in {' or '.join(KINDS)}")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise UserError("out: pictures need the extra plot: pip install 'lockstep-sgd[plot]'") from error
    return Figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure; UserError where the file cannot be written."""
    with writing(path, "out"):
        figure.savefig(path, dpi=150)
