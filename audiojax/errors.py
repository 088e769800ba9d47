"""Exceptions whose message is one sentence for the user: what is wrong, where, and what to do."""


class AudiojaxError(Exception):
    """Base class of the errors that a program prints without a traceback."""


class ConfigError(AudiojaxError):
    """A configuration value, row or name is invalid."""


class DataError(AudiojaxError):
    """A release, prepared data set or split cannot be used."""


class RunError(AudiojaxError):
    """A run's folder cannot be written, read or continued."""


class NonFiniteError(AudiojaxError):
    """A loss or gradient is not finite. mark: its "step" and "quantity", where they are known."""

    def __init__(self, sentence: str, mark: dict | None = None):
        super().__init__(sentence)
        self.mark = mark or {}


class Interrupted(AudiojaxError):
    """The user or the scheduler stopped the run; its state is saved."""
