"""The one error that datasets raise."""


class DataError(Exception):
    """Something about a dataset that its user has to mend; the message is one line: what, where, and the way out."""
