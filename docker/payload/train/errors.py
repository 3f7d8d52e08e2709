"""What a person is told: what cannot be done and why, in a line, and what to change."""


class JobError(Exception):
    """The job cannot be done; `hint` says what to change."""

    def __init__(self, message, hint=""):
        super().__init__(message)
        self.hint = hint
