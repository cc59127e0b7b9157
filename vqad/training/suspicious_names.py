"""Names of files and folders that suggest defects or masks among good images."""

import re
from collections.abc import Iterable, Iterator
from posixpath import basename, dirname, splitext
from typing import Final

# Words that public data sets and factories use for folders of what is not good (a guess).
_WORDS: Final = frozenset(
    (
        "abnormal",
        "anomalies",
        "anomalous",
        "anomaly",
        "annotation",
        "annotations",
        "bad",
        "broken",
        "def",
        "defect",
        "defective",
        "defects",
        "fault",
        "faulty",
        "groundtruth",
        "gt",
        "ko",
        "label",
        "labels",
        "mask",
        "masks",
        "ng",
        "nok",
        "reject",
        "rejects",
        "scrap",
        "segmentation",
        "test",
        "truth",
    )
)
_OF_A_MASK: Final = re.compile(
    r"(?P<image>.+?)[._ -]*(mask|label|gt|ground_?truth|segmentation|annotation)s?"
)


def in_folders(paths: Iterable[str], *, allowed: str = "") -> str:
    """A sentence about the first folder that is named after defects or masks; "" if there is none.

    A folder whose name is part of the text ``allowed`` does not count.
    """
    for path in paths:
        for name in dirname(path).split("/"):
            words = set(re.split(r"[^a-z]+", name.casefold()))
            if words & _WORDS and name.casefold() not in allowed.casefold():
                return f"found a folder {name}, whose name suggests images that are not good"
    return ""


def of_masks(paths: Iterable[str]) -> str:
    """A sentence about the first file that looks like the mask of another; "" if there is none."""
    by_stem: dict[str, str] = {}
    for path in sorted(paths):
        stem = splitext(path)[0].casefold()
        if stem in by_stem:
            return (
                f"found {by_stem[stem]} and {basename(path)} side by side, of which one may be the "
                "mask of the other"
            )
        by_stem[stem] = path
    for stem, path in by_stem.items():
        for image in _images_of(stem):
            if image in by_stem:
                return f"found {path}, whose name suggests a mask of {basename(by_stem[image])}"
    return ""


def _images_of(stem: str) -> Iterator[str]:
    """The stem of the image whose mask this stem may name."""
    folder, name = dirname(stem), basename(stem)
    if found := _OF_A_MASK.fullmatch(name):
        yield f"{folder}/{found['image']}" if folder else found["image"]
