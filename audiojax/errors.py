"""Exceptions whose message is one sentence for the user: what is wrong, where, and what to do."""


class AudiojaxError(Exception):
    """Base of every error that `launch.py` prints without a traceback."""


class ConfigError(AudiojaxError):
    """A configuration value, row or name that cannot be used."""


class DataError(AudiojaxError):
    """A release, prepared data set or split that cannot be used."""


class RunError(AudiojaxError):
    """A run folder that cannot be written, read or continued."""


class NonFiniteError(AudiojaxError):
    """A loss or gradient that is no longer a finite number. mark: the "step" and "quantity", where they are known."""

    def __init__(self, sentence: str, mark: dict | None = None):
        super().__init__(sentence)
        self.mark = mark or {}


class Interrupted(AudiojaxError):
    """The user or the scheduler asked the run to stop; its state is saved."""
