"""Write image.lock and image-cuda.lock from a report of pip.

    pip install --dry-run --ignore-installed --only-binary :all: --report report.json \
        -c cluster/requirements.lock .
    python cluster/image_locks.py report.json

Run it with the image's Python on x86-64, and with PyTorch from the Python package index. The hashes
are those of the files that pip chose there, so another platform needs locks of its own.
"""

import json
import sys
from pathlib import Path
from typing import Any

# PyTorch differs between the variants of the image, and only the one with CUDA needs the others.
CUDA_ALONE = ("cuda-", "nvidia-", "torch", "triton")
HEADERS = {
    "image.lock": "# What runs in the image, but for PyTorch (Python 3.11, x86-64).",
    "image-cuda.lock": "# PyTorch with CUDA and what it alone needs (Python 3.11, x86-64).",
}


def locks(report: dict[str, Any]) -> dict[str, str]:
    """The text of each lock, by its file name."""
    lines: dict[str, list[str]] = {name: [] for name in HEADERS}
    for each in report["install"]:
        name, version = each["metadata"]["name"], each["metadata"]["version"]
        archive = each["download_info"].get("archive_info")
        if archive is None:
            continue  # this project, which pip took from a folder
        file = "image-cuda.lock" if name.lower().startswith(CUDA_ALONE) else "image.lock"
        lines[file].append(f"{name}=={version} --hash=sha256:{archive['hashes']['sha256']}")
    made = "# Made by cluster/image_locks.py; do not edit."
    return {
        name: "\n".join([HEADERS[name], made, *sorted(found, key=str.lower), ""])
        for name, found in lines.items()
    }


if __name__ == "__main__":
    for name, text in locks(json.loads(Path(sys.argv[1]).read_text())).items():
        (Path(__file__).parent / name).write_text(text)
