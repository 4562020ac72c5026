"""Numbers made of random words by sums, products and roots only: the same on every machine."""

_WORD = 1 << 64
_TERMS = 30


def fraction(word: int) -> float:
    """Return a number from 0 to 1."""
    return word / _WORD


def between(word: int, least: float, most: float) -> float:
    """Return a number that is anywhere in a range as likely."""
    return least + (most - least) * fraction(word)


def ratio(word: int, log_least: float, log_most: float) -> float:
    """Return a number whose logarithm, natural and of a size up to 2, is anywhere in a range as likely."""
    return _exponential(between(word, log_least, log_most))


def _exponential(x: float) -> float:
    """Return e to the power of x by its series: the C library's differ between versions."""
    total = term = 1.0
    for n in range(1, _TERMS):
        term *= x / n
        total += term
    return total
