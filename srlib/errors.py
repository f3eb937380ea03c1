"""The one error that means the caller asked for something wrong, not that something broke."""


class UsageError(ValueError):
    """A wrong option, path or value. Its message names it and says what would be right."""
