"""The reviews of an output: ``OUTPUT/reviews/``, one file for each time that some were applied.

A file is named after what is in it and is never changed, so applying the same reviews again adds
nothing, and two people who apply theirs at the same time don't need to know of each other. Of
several reviews of one image the latest counts.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from vqad.images.listing import Listed
from vqad.inspection import reviews
from vqad.inspection.reviews import Review
from vqad.storage import files, output_layout, uris
from vqad.storage.retries import errors_at

_LARGEST_FILE_BYTES: Final = 2**26
_NUM_READERS: Final = 16  # threads


def store(output: str, found: Sequence[Review]) -> bool:
    """Store reviews; returns False if they are there already. Raises ArchiveError."""
    # The tag of an image's file may have changed since these reviews were stored first; then the
    # first tag is the right one.
    uri = output_layout.review_file(output, (replace(one, source_etag="").line() for one in found))
    if files.exists(uri):
        return False
    files.write_bytes(uri, b"".join(one.line() for one in found))
    return True


def read(output: str) -> dict[str, Review]:
    """The latest review of each image. Raises ArchiveError, and ReviewError for a broken file."""
    folder = output_layout.reviews(output)
    if not files.exists(folder):
        return {}
    names = filter(output_layout.is_review_file, files.list_names(folder))
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        found = pool.map(_read, [uris.join(folder, name) for name in names])
        return reviews.latest_by_image(each for of_file in found for each in of_file)


def output_of(uri: str) -> str:
    """The output whose reviews are meant by its own URI or by that of its folder ``reviews``.

    Raises ReviewError if it has none.
    """
    for output in (uri, uri.removesuffix("/reviews")):
        if files.exists(output_layout.reviews(output)):
            return output
    raise reviews.ReviewError(
        f"{uri} has no reviews; give an output to which vqad review apply has added some"
    )


def false_alarms(output: str, category: str) -> list[Listed]:
    """The confirmed false alarms of a category, as images to read, sorted by URI.

    Raises as ``read`` does.
    """
    return [
        Listed(image=each.image, size_bytes=0, etag=each.source_etag, modified_at=None)
        for _, each in sorted(read(output).items())
        if each.mark == "false_alarm" and each.category == category
    ]


def _read(uri: str) -> list[Review]:
    with errors_at(uri):
        data = files.read_bytes(uri, max_bytes=_LARGEST_FILE_BYTES)
    return reviews.parse(data, uri)
