"""The layout of OUTPUT, the folder that an inspection writes. Every name in it is spelled here.

    OUTPUT/verdicts/CATEGORY FOLDER/part-*.parquet   one row per image
    OUTPUT/maps/CATEGORY FOLDER/part-*.parquet       one row per inspected image
    OUTPUT/shadow/verdicts/CATEGORY FOLDER/part-*    the same of a second detector, by `--shadow`
    OUTPUT/parts/CATEGORY FOLDER/parts.parquet       one row per product part, if asked for
    OUTPUT/runs/RUN.json, OUTPUT/run.json            records of all runs, and of the latest
    OUTPUT/metrics.prom                              numbers of the latest run, for Prometheus
    OUTPUT/sheets/RUN/sheet-NNN.png                  contact sheets
    OUTPUT/report/index.html                         the page about the output
    OUTPUT/report/pictures/*.webp                    pictures of its cards
    OUTPUT/reviews/DIGEST.jsonl                      marks that people gave to images
    OUTPUT/export/FORMAT/                            masks or COCO JSON for labelling tools
    OUTPUT/shards/DIGEST.json                        number of images of each shard
    OUTPUT/lease.json                                the run that may write here

All functions are pure: they make URIs and touch no storage.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, Literal

from vqad.storage.folder_names import encoded_name
from vqad.storage.uris import join

Table = Literal["verdicts", "maps"]
TABLES: Final[tuple[Table, ...]] = ("verdicts", "maps")

_DIGEST_CHARACTERS: Final = 24  # of 64: 96 bits, so that no two names of one output collide


def table(output: str, name: Table) -> str:
    """The folder of a table; it has one folder per category."""
    return join(output, name)


def shadow(output: str) -> str:
    """The folder with the table of a second detector's verdicts, which is laid out like OUTPUT."""
    return join(output, "shadow")


def category_table(output: str, name: Table, category: str) -> str:
    """The folder of one category's parts of a table."""
    return join(output, name, category_folder(category))


def category_folder(category: str) -> str:
    """The name of a category's folder in a table.

    Plain, without ``category=``: pandas and pyarrow fail where both a folder and a column of the
    table name the category.
    """
    return encoded_name(category)


def part_of(category: str, images: Iterable[str]) -> str:
    """CATEGORY FOLDER/NAME of the part with these images, which alone decide its name."""
    return f"{category_folder(category)}/part-{_digest(chr(10).join(sorted(images)))}.parquet"


def folder_of_part(part: str) -> str:
    """The category folder of a part."""
    return part.partition("/")[0]


def part(output: str, name: Table, part: str) -> str:
    """The file of a part, which has one name in both tables."""
    return join(output, name, part)


def is_part(file_name: str) -> bool:
    """True if a file in a category folder is named as a part."""
    return file_name.startswith("part-") and file_name.endswith(".parquet")


def product_parts_folder(output: str) -> str:
    """The folder with the tables of product parts, which has one folder per category."""
    return join(output, "parts")


def product_parts(output: str, folder: str) -> str:
    """The table of product parts of one category, by the category's folder."""
    return join(product_parts_folder(output), folder, "parts.parquet")


def runs(output: str) -> str:
    """The folder with the records of all runs."""
    return join(output, "runs")


def run_record(output: str, run: str) -> str:
    """The record of one run."""
    return join(output, "runs", f"{run}.json")


def latest_run_record(output: str) -> str:
    """A copy of the latest run's record."""
    return join(output, "run.json")


def metrics(output: str) -> str:
    """The numbers of the latest run in the text format of Prometheus."""
    return join(output, "metrics.prom")


def sheets(output: str, run: str) -> str:
    """The folder with the contact sheets of a run."""
    return join(output, "sheets", run)


def sheet(output: str, run: str, page: int) -> str:
    """A contact sheet of a run; pages count from 1."""
    return join(sheets(output, run), f"sheet-{page:03}.png")


def report_page(output: str) -> str:
    """The page about an output."""
    return join(output, "report", "index.html")


def report_pictures(output: str) -> str:
    """The folder with the pictures of the page."""
    return join(output, "report", "pictures")


def report_picture(output: str, name: str) -> str:
    """One picture of the page."""
    return join(report_pictures(output), name)


def reviews(output: str) -> str:
    """The folder with the reviews that were applied."""
    return join(output, "reviews")


def review_file(output: str, lines: Iterable[bytes]) -> str:
    """The file of some reviews, whose lines alone decide its name."""
    digest = hashlib.sha256(b"".join(sorted(lines))).hexdigest()[:_DIGEST_CHARACTERS]
    return join(reviews(output), f"{digest}.jsonl")


def is_review_file(file_name: str) -> bool:
    """True if a file in the folder of reviews is named as one."""
    return file_name.endswith(".jsonl") and not file_name.startswith(".")


def export(output: str, export_format: str) -> str:
    """The folder of an export, unless another one is asked for."""
    return join(output, "export", export_format)


def shard_records(output: str) -> str:
    """The folder with the records of shards."""
    return join(output, "shards")


def shard_record(output: str, shard: str) -> str:
    """The record of a shard's number of images, by the shard's URI."""
    return join(output, "shards", shard_record_name(shard))


def shard_record_name(shard: str) -> str:
    """The file name of a shard's record."""
    return f"{_digest(shard)}.json"


def lease(output: str) -> str:
    """The lease."""
    return join(output, "lease.json")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]
