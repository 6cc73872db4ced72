"""Weights as bytes in the safetensors format only, so that loading them cannot run code."""

from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.networks import KernelSizes
from mnist_ops.vision.models.architectures import ConvolutionalNetwork, build_network


def weights_of(state: Mapping[str, Tensor]) -> bytes:
    """The state of a network, batch statistics included, in the safetensors format."""
    return safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in state.items()})


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state into a network.

    Raises:
        Permanent: it is the state of another network.
    """
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise Permanent(f"these are not weights of this network: {error}") from error


def network_from(name: str, weights: bytes, kernel_sizes: KernelSizes | None = None) -> ConvolutionalNetwork:
    """A network by its registered name with the given weights, ready for inference.

    Raises:
        Permanent: no network has that name, or these are not its weights in the safetensors format.
    """
    network = build_network(name, kernel_sizes)
    try:
        load_state(network, safetensors.torch.load(weights))
    except (SafetensorError, Permanent) as error:
        raise Permanent(f"these are not weights of {name}: {error}") from error
    return network.eval()
