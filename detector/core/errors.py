"""Errors are types whose attributes drive behaviour.

``exit_code`` is what the process ends with (2 usage, 70 internal, 75 temporary, 78
configuration); ``retriable`` says whether the supervisor may try the same again.
"""

from __future__ import annotations

EXIT_OK, EXIT_USAGE, EXIT_INTERNAL, EXIT_TEMPORARY, EXIT_CONFIG = 0, 2, 70, 75, 78

REJECT_REASONS = (
    "not_utf8",
    "not_json",
    "wrong_type",
    "missing_ts",
    "bad_ts",
    "bad_line",
    "too_large",
    "out_of_range",
)


class KeywatchError(Exception):
    """Root of all errors that have one clear sentence for the user."""

    exit_code = EXIT_INTERNAL
    retriable = False


class UsageError(KeywatchError):
    """The command line asks for something that cannot be done."""

    exit_code = EXIT_USAGE


class ConfigError(KeywatchError):
    """The configuration, or something it points to, is wrong."""

    exit_code = EXIT_CONFIG


class TemporaryError(KeywatchError):
    """The same call may work later: an unreachable broker, a full disk."""

    exit_code = EXIT_TEMPORARY
    retriable = True


class SnapshotError(KeywatchError):
    """A snapshot is damaged, foreign, or of a version this build does not read."""


class DeliveryError(KeywatchError):
    """One failed delivery attempt of a sink.

    ``retriable`` False means a dead letter at once; ``retry_after_s`` is the receiver's wish.
    """

    def __init__(self, message: str, *, retriable: bool, retry_after_s: float | None = None):
        super().__init__(message)
        self.retriable = retriable
        self.retry_after_s = retry_after_s
