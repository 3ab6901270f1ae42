"""Errors that a person can act on, each with the exit status it becomes at the command line."""


class CaoError(Exception):
    """Base of every expected error: one line that says what is wrong and what to do."""

    exit_code = 1


class InputError(CaoError):
    """Bad input or configuration (exit status 2)."""

    exit_code = 2


class UnavailableError(CaoError):
    """Something needed is not at hand (exit status 3); the message names the command that provides it."""

    exit_code = 3


class NoRoomError(UnavailableError):
    """The disk had no room for something; the message says for what, and how much room there is."""


class NotApplicableError(CaoError):
    """A valid strategy that has nothing to act on in the present state; the loop records it as a rejection."""
