"""The errors that are answered with one line instead of a traceback."""

from collections.abc import Iterable


class UsageError(ValueError):
    """A wrong option, path or value. Its message names it and says what would be right. Exit status 2."""


class DataError(RuntimeError):
    """The request was right, but the photos, the disk or the network stand in its way. Exit status 1."""


def known(kind: str, name: str, choices: Iterable[str]) -> None:
    """UsageError, with the choices, for a name that is not among them."""
    if name not in choices:
        raise UsageError(f"unknown {kind} {name!r}: choose from {', '.join(choices)}")
