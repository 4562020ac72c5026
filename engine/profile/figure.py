"""Write pictures to files, whose endings are checked before anything is drawn."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.files import write_whole, writing

KINDS = (".png", ".svg")


def figure_class(path: Path, *, what: str = "out") -> Any:
    """Check a picture's ending and return matplotlib's figure class.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending.
    """
    if path.suffix not in KINDS:
        raise UserError(f"{what}: got {path}; must end in {' or '.join(KINDS)}")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise UserError(f"{what}: pictures need the extra plot: pip install 'lockstep-sgd[plot]'") from error
    return Figure


def save_figure(figure: Any, path: Path, *, what: str = "out") -> None:
    """Write a figure, whole or not at all; UserError where the file cannot be written."""
    drawn = BytesIO()
    with warnings.catch_warnings():  # of letters that its font has not, of names that take all the room
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(drawn, dpi=150, format=path.suffix[1:])
    with writing(path, what):
        write_whole(path, drawn.getvalue())
