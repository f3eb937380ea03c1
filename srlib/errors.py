"""The errors that are answered with one line instead of a traceback."""


class UsageError(ValueError):
    """A wrong option, path or value. Its message names it and says what would be right. Exit status 2."""


class DataError(RuntimeError):
    """The request was right, but the photos, the disk or the network stand in its way. Exit status 1."""
