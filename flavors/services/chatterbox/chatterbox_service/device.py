"""What a GPU says when it cannot go on."""

from __future__ import annotations

import torch


def out_of_memory(error: Exception) -> bool:
    """Whether there was no room for what was to be computed; whoever frees some may go on."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)


def unusable(error: Exception) -> bool:
    """Whether the device is lost to this process: after such an error each further call fails as this one did."""
    return isinstance(error, torch.AcceleratorError) or str(error).startswith(("CUDA error", "HIP error"))


def free_unused(device: torch.device) -> None:
    """Give the device's memory that torch holds for later back, for others on it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
