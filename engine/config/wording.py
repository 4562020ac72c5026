"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 rank", "2 ranks"."""
    return f"{number} {noun}{'s' * (number != 1)}"
