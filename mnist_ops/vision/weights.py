"""Weights as bytes: safetensors only, so that loading them can run no code."""

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.lenet import build_network


def weights_of(network: nn.Module) -> bytes:
    """The state of a network, batch statistics included, in the safetensors format."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(state)


def network_from(name: str, weights: bytes) -> nn.Module:
    """A network by its registered name with the given weights, ready for inference.

    Raises:
        Permanent: no network has that name, or these are not its weights in the safetensors format.
    """
    network = build_network(name)
    try:
        network.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise Permanent(f"these are not weights of {name}: {error}") from error
    return network.eval()
