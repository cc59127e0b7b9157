"""A cache of loaded detectors, one per worker process."""

from typing import Final

from vqad.detector import Detector

# Bytes of weights that a worker keeps loaded (a guess). The paper's networks are about a tenth.
LARGEST_CACHED_BYTES: Final = 2**29


class DetectorCache:
    """Detectors of pinned versions, loaded on first use; the least recently used are dropped."""

    def __init__(self, models: str, versions: dict[str, str], device: str) -> None:
        self.models, self.versions, self.device = models, versions, device
        self.loaded: dict[str, Detector] = {}

    def get(self, category: str) -> Detector:
        """The pinned detector of a category. Raises DetectorError where it can't be loaded."""
        found = self.loaded.pop(category, None)
        if found is None:
            version = self.versions[category]
            found = Detector.load(self.models, category, version=version).to(self.device)
            while self.loaded and _bytes_of(*self.loaded.values(), found) > LARGEST_CACHED_BYTES:
                del self.loaded[next(iter(self.loaded))]
        self.loaded[category] = found  # a dict keeps its order: the last is the latest used
        return found


def _bytes_of(*detectors: Detector) -> int:
    return sum(
        tensor.nbytes
        for each in detectors
        for network in (each.vqvae, each.prior)
        for tensor in network.state_dict().values()
    )
