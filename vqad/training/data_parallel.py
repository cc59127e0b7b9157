"""Several workers fit one network together, each on its part of every batch.

All workers have the same weights and draw the same random numbers, but each computes its own part
of a batch. Sums over the workers make a step equal to one worker's step on the whole batch, up to
rounding. Without a process group there is one worker, and these functions have no effect.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn


def num_workers() -> int:
    """The number of workers."""
    return distributed.get_world_size() if _are_several() else 1


def rank() -> int:
    """The position of this worker among them, from 0."""
    return distributed.get_rank() if _are_several() else 0


def part_of(num: int) -> slice:
    """The part of ``num`` items that is this worker's; sizes of parts differ by at most one."""
    return slice(num * rank() // num_workers(), num * (rank() + 1) // num_workers())


def size_of_part(num: int) -> int:
    """The number of items in this worker's part."""
    part = part_of(num)
    return part.stop - part.start


def add_up(tensor: Tensor) -> None:
    """Sum a tensor over the workers, in place."""
    if num_workers() > 1:
        distributed.all_reduce(tensor)


def take_first(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of the first worker, in place."""
    if num_workers() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def add_up_gradients(network: nn.Module, loss: Tensor) -> Tensor:
    """Sum all gradients over the workers, in place; returns the sum of their losses.

    They go in one message: the networks are small, so that the cost of a message exceeds that of
    its content.
    """
    if num_workers() == 1:
        return loss
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    flat = torch.cat([*(each.flatten() for each in gradients), loss.reshape(1).float()])
    add_up(flat)
    *sums, whole = flat.split([*(each.numel() for each in gradients), 1])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
    return whole[0]


def first_says(yes: bool, device: torch.device) -> bool:
    """The first worker's value of ``yes``, on all workers."""
    answer = torch.tensor(int(yes), device=device)
    take_first([answer])
    return bool(answer)


def _are_several() -> bool:
    return bool(distributed.is_available() and distributed.is_initialized())
