"""The exceptions that have a meaning of their own: mistakes that the user can mend, and impatience."""

from engine.config.wording import printable


class UserError(ValueError):
    """A mistake in what the user gave: a path, a file, a recipe, an option.

    The message is one line: where, what came, what is allowed. The command line prints it and exits
    with code 2, without a traceback. What it quotes of users' files may be anything: it is made printable.
    """

    def __init__(self, message: object):
        super().__init__(printable(" ".join(str(message).splitlines())))


class Impatience(KeyboardInterrupt):
    """A Ctrl-C of somebody who will not wait, which code of the user's has not raised itself."""


MISTAKES = (UserError, MemoryError)
"""What ends a command with a line and exit code 2."""


def in_one_line(error: BaseException) -> str:
    """Return what a command says of one of `MISTAKES`."""
    return f"memory: {str(error) or 'none is left'}" if isinstance(error, MemoryError) else str(error)
