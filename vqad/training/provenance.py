"""Code, library and device of a fit, recorded so that the fit can be repeated."""

import hashlib
from functools import cache
from pathlib import Path

import torch

import vqad


@cache
def sources_sha256() -> str:
    """Hash over all source files of this library, also of changes that were never committed."""
    root = Path(vqad.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def made_with(device: torch.device, num_workers: int) -> dict[str, str | int]:
    """Everything that changes a fit's last bits, besides seed, data and preset."""
    is_gpu = device.type == "cuda"
    return {
        "vqad_sha256": sources_sha256(),
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if is_gpu else _cpu(),
        "num_threads": torch.get_num_threads(),
        "num_workers": num_workers,
    }


def _cpu() -> str:
    # The capability decides which kernels are used, and whether bfloat16 is.
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}"
