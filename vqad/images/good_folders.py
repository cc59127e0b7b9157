"""The names of folders that contain good images, in training data and in test data."""

from typing import Final

# MVTec AD says good, BTAD says ok, VisA and many factories say normal.
GOOD_NAMES: Final = ("good", "ok", "normal")


def is_good(folder: str) -> bool:
    """True if a folder of this name contains good images, in capitals or not."""
    return folder.casefold() in GOOD_NAMES
