"""The lock files in cluster/."""

from packaging.utils import canonicalize_name

from tests.support.kuberay_schemas import ROOT


def locked(name: str) -> dict[str, str]:
    """Versions in a lock file, by the canonical names of the packages."""
    lines = (ROOT / "cluster" / name).read_text().splitlines()
    pinned = [line.split()[0].split("==") for line in lines if line and line[0] != "#"]
    return {canonicalize_name(package): version for package, version in pinned}
