"""Errors of files, folders and objects, as every reader of storage raises them."""

from typing import Final

from vqad.tables import ERRORS

# Errors that are the store's and say nothing of the image, which may be readable the next time.
OF_THE_STORE: Final = ("missing", "denied", "fetch_failed")


class ArchiveError(ValueError):
    """A place that can't be listed, read or written; the message says what would do."""


class FetchError(ArchiveError):
    """Bytes that could not be had: ``error`` is one of ``tables.ERRORS``, ``detail`` says more."""

    def __init__(self, error: str, detail: str, remedy: str = "") -> None:
        assert error in ERRORS, error
        super().__init__(error, detail, remedy)
        self.error = error
        self.detail = detail
        self.remedy = remedy

    def __str__(self) -> str:
        return self.detail
