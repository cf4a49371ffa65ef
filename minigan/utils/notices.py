"""The category of warnings on which the user need not act."""


class Notice(UserWarning):
    """Something was guessed, skipped or is out of date; a command prints it as one line."""
