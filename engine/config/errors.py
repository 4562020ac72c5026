"""The exception for mistakes that the user can mend."""


class UserError(ValueError):
    """A mistake in what the user gave: a path, a file, a recipe, an option.

    The message is one line: where, what came, what is allowed. The command line prints it and exits
    with code 2, without a traceback.
    """
