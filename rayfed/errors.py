"""Errors that a user can cause: one line that says what, where, and what would be right."""


class UserError(Exception):
    """Bad input; the command line prints the message alone and exits with `exit_code`."""

    exit_code = 2


class CapacityError(UserError):
    """The cluster can never hold what the run asks for."""

    exit_code = 3
