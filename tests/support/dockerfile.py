"""The instructions of cluster/Dockerfile."""

import re
from collections.abc import Iterator

from tests.support.kuberay_schemas import ROOT

DOCKERFILE = ROOT / "cluster" / "Dockerfile"


def steps() -> Iterator[tuple[str, str]]:
    """Yield each instruction of the Dockerfile with its arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", "").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction:
            yield instruction, rest
