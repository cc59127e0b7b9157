"""The reviews of an output: ``OUTPUT/reviews/``, one file for each time that some were applied.

A file is named after what is in it and is never changed, so applying the same reviews again adds
nothing, and two people who apply theirs at the same time don't need to know of each other. Of
several reviews of one image the latest counts. A file may also be put there by hand, so reading
makes the check that applying makes: a review counts if its image has a verdict in the output.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from vqad.images.listing import Listed
from vqad.inspection import reviews, verdict_rows
from vqad.inspection.reviews import Review
from vqad.inspection.summary import Say
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


def read(output: str, say: Say, category: str = "") -> dict[str, Review]:
    """The latest review of each image that has a verdict in the output; others are said.

    The reviews are those of a category, if one is given. Raises ArchiveError, and ReviewError for a
    broken file.
    """
    found = [each for each in _read_all(output) if category in ("", each.category)]
    if not found:
        return {}
    categories = _categories(output, {each.image for each in found})
    problems = [(each, problem(each, categories.get(each.image), output)) for each in found]
    reasons = [reason for _, reason in problems if reason]
    if reasons:
        say(
            f"warning: {len(reasons)} reviews in {output_layout.reviews(output)} do not count, "
            f"the first: {reasons[0]}; vqad review apply would have refused them"
        )
    return reviews.latest_by_image(each for each, reason in problems if not reason)


def problem(review: Review, category: str | None, output: str) -> str:
    """The reason why a review can't count in an output; "" if it can.

    ``category`` is that of the image's verdict there, None without one.
    """
    if category is None:
        return f"{review.image} has no verdict in {output}"
    if category != review.category:
        return f"{review.image} is of the category {category} in {output}, not {review.category}"
    return ""


def _categories(output: str, images: set[str]) -> dict[str, str]:
    """The category of each of these images that has a verdict."""
    if not files.exists(output_layout.table(output, "verdicts")):
        return {}
    wanted = pa.array(sorted(images), pa.string())
    return {
        image: category
        for category, rows in verdict_rows.columns(output, ("image",), []).items()
        for image in rows["image"].filter(pc.is_in(rows["image"], wanted)).to_pylist()
    }


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


def false_alarms(output: str, category: str, say: Say) -> list[Listed]:
    """The confirmed false alarms of a category, as images to read, sorted by URI.

    Raises as ``read`` does.
    """
    return [
        Listed(image=each.image, size_bytes=0, etag=each.source_etag, modified_at=None)
        for _, each in sorted(read(output, say, category).items())
        if each.mark == "false_alarm"
    ]


def _read_all(output: str) -> list[Review]:
    """All stored reviews, sorted by file."""
    folder = output_layout.reviews(output)
    if not files.exists(folder):
        return []
    names = sorted(filter(output_layout.is_review_file, files.list_names(folder)))
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        found = pool.map(_read, [uris.join(folder, name) for name in names])
        return [each for of_file in found for each in of_file]


def _read(uri: str) -> list[Review]:
    with errors_at(uri):
        data = files.read_bytes(uri, max_bytes=_LARGEST_FILE_BYTES)
    return reviews.parse(data, uri)
