"""The warning category of what a user should know and need not act on."""


class Notice(UserWarning):
    """Something was guessed, skipped or is out of date; the command line prints it as one line."""
