"""A torch module's parameters and buffers as arrays by name, as safetensors keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def module_arrays(module: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
    """Parameters and floating-point buffers by name, for safetensors; counters of batches are left out."""
    state = module.state_dict()
    return {
        name: np.array(tensor.detach().cpu().numpy(), np.float32)
        for name, tensor in state.items()
        if tensor.is_floating_point()
    }


def not_of(module: torch.nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Names of which the module and ``arrays`` have not the same shape: none if the arrays are this network's."""
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    given = {name: array.shape for name, array in arrays.items()}
    return sorted(name for name in shapes | given if shapes.get(name) != given.get(name))


def load_arrays(module: torch.nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Fill a module from `module_arrays`.

    Raises:
        ValueError: a name or a shape differs.
    """
    import torch

    different = not_of(module, arrays)
    if different:
        raise ValueError(f"the arrays are not this network's: {', '.join(different[:5])}")
    own = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))
