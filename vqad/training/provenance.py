"""What made a detector, so that it can be made again: code, library, device."""

import hashlib
from functools import cache
from pathlib import Path

import torch

import vqad


@cache
def sources_sha256() -> str:
    """Hash over all files of this library: the version of its code, committed or not."""
    root = Path(vqad.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def made_with(device: torch.device, num_workers: int) -> dict[str, str | int]:
    """What the last bits of a fit hang on, beside seed, data and preset."""
    is_gpu = device.type == "cuda"
    return {
        "vqad_sha256": sources_sha256(),
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device) if is_gpu else _cpu(),
        "num_threads": torch.get_num_threads(),
        "num_workers": num_workers,
    }


def _cpu() -> str:
    # Decides, among others, which kernels there are and whether bfloat16 is used.
    return f"cpu, {torch.backends.cpu.get_cpu_capability()}"
