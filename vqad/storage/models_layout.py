"""The layout of MODELS, the folder with the detectors. Every name of a place in it is spelled here.

    MODELS/CATEGORY FOLDER/VERSION/detector.json          settings, record of the fit, hashes
    MODELS/CATEGORY FOLDER/VERSION/*.safetensors          weights of the two networks
    MODELS/CATEGORY FOLDER/VERSION/roi.png                what counts of its images, if not all
    MODELS/CATEGORY FOLDER/VERSION/training.{jsonl,png}   curves of the fit, for people
    MODELS/CATEGORY FOLDER/current.json                   names the version in force
    MODELS/CATEGORY FOLDER/promotions/NAME.json           one change of the version in force
    MODELS/.runs/RUN/NAME/                                checkpoints of a category in training

All functions are pure: they make URIs and touch no storage. A category's folder is the category
itself wherever that can be a folder's name, else a short name with a digest. So detector.json, and
not the folder, says which category a detector is of.
"""

from typing import Final

from vqad.storage.folder_names import encoded_name, readable_name
from vqad.storage.uris import join

WEIGHTS: Final = ("vqvae.safetensors", "prior.safetensors")
LOCAL_STATISTICS: Final = "local_statistics.safetensors"  # of the form full
SEGMENTER: Final = "segmenter.safetensors"  # of the form full, where it has one
ALIGNMENT: Final = "alignment.safetensors"  # of a product that lies in any direction
ROI: Final = "roi.png"  # where the detector has a region of interest
CURVES: Final = ("training.jsonl", "training.png")


def category_folder(category: str) -> str:
    """The name of a category's folder."""
    return readable_name(category)


def is_category_folder(name: str) -> bool:
    """True if a name in MODELS may be a category's folder: the program's own begin with a dot."""
    return not name.startswith(".")


def current(models: str, category: str) -> str:
    """The file that names the version in use."""
    return current_in(models, category_folder(category))


def current_in(models: str, folder: str) -> str:
    """The same file, by the name of the category's folder."""
    return join(models, folder, "current.json")


def category_in(models: str, folder: str) -> str:
    """The place of a category's folder."""
    return join(models, folder)


def promotions(models: str, category: str) -> str:
    """The folder with the log of what was put in force."""
    return join(models, category_folder(category), "promotions")


def promotion(models: str, category: str, name: str) -> str:
    """One entry of that log."""
    return join(promotions(models, category), f"{name}.json")


def version(models: str, category: str, version: str) -> str:
    """The folder of one version of a category's detector."""
    return version_in(models, category_folder(category), version)


def version_in(models: str, folder: str, version: str) -> str:
    """The same folder, by the name of the category's folder."""
    return join(models, folder, version)


def record(version_folder: str) -> str:
    """The detector's record in the folder of its version."""
    return join(version_folder, "detector.json")


def run(models: str, run: str) -> str:
    """The folder in which a run of `vqad train` keeps checkpoints."""
    return join(models, ".runs", readable_name(run))


def checkpoints_name(category: str, digest: str) -> str:
    """The name of a category's folder in that of a run; ASCII, because Ray encodes it so."""
    return f"{encoded_name(category)}-{digest}"
