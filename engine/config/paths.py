"""Paths as users write them."""

from pathlib import Path

from engine.config.errors import UserError


def expand(text: str, option: str) -> Path:
    """Return the path that an option was given; ~ is the home folder, and the path need not exist.

    Raises
    ------
    UserError
        There is no such home folder, or no file can have this name; an empty one is perhaps a variable of
        the shell that is not set, and not the working folder.
    """
    if not text:
        raise UserError(f'{option}: got ""; must be a path')
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


def working_folder() -> str:
    """Return the folder that relative paths begin in; empty where it has been removed."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def function_in_file(text: str) -> tuple[str, str] | None:
    """Return the path and the name that "FILE.py:function" consists of; None for any other text."""
    path, _, name = text.rpartition(":")
    return (path, name) if path.endswith(".py") and name.isidentifier() else None
