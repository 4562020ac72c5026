"""Paths as users write them."""

from pathlib import Path

from engine.config.errors import UserError


def expand(text: str, option: str) -> Path:
    """Return the path that an option was given; ~ is the home folder, and nothing need be there.

    Raises
    ------
    UserError
        There is no such home folder, or no file can have this name.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f'{option}: got "{text}"; there is no such home folder') from error
    try:
        str(path).encode()  # recipes hold it as UTF-8
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError as error:
        raise UserError(f"{option}: {text}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{option}: got {text!r}, which is no name of a file: {error}") from error
    return path
