"""The networks, and the preprocessing inside them."""

import pytest
import torch
from torch.nn import functional

from mnist_ops.domain.errors import Permanent
from mnist_ops.vision.config.networks import NETWORKS
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.models.architectures import build_network, parameter_count
from mnist_ops.vision.models.digit_classifier import DigitClassifier, resize_weights


def test_lenet5_has_61750_parameters() -> None:
    """As the network of the source."""
    assert parameter_count(build_network("lenet5")) == 61_750


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_logits(name: str) -> None:
    """Of shape (N, 10)."""
    network = build_network(name).eval()
    assert network(torch.zeros(3, 1, 32, 32)).shape == (3, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_embedding_is_the_input_of_the_last_layer(name: str) -> None:
    """TensorBoard's projector shows it."""
    network = build_network(name).eval()
    pixels = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(network.head[-1](network.embed(pixels)), network(pixels))


@pytest.mark.parametrize("kernel_sizes", [(3, 3), (3, 5), (5, 3), (5, 5), (1, 9)])
def test_the_first_full_layer_is_sized_for_the_kernels(kernel_sizes: tuple[int, int]) -> None:
    """The number of features is computed."""
    network = build_network("conv20-50-500", kernel_sizes).eval()
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    sides = [module.kernel_size for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sides == [(side, side) for side in kernel_sizes]


def test_kernel_sizes_are_refused_where_they_are_fixed() -> None:
    """The error names the network, both sizes, and a network whose sizes can be chosen."""
    with pytest.raises(Permanent, match=r"lenet5 .* \(5, 5\), not \(3, 3\).*conv20-50-500"):
        build_network("lenet5", (3, 3))


def test_an_unknown_network_is_named() -> None:
    """The error lists the known ones."""
    with pytest.raises(Permanent, match=r"'resnet'.*lenet5"):
        build_network("resnet")


def test_sizing_a_network_does_not_change_its_batch_statistics() -> None:
    """The picture of zeros is not used for training."""
    features = build_network("lenet5").features
    assert features.training
    assert torch.equal(features[1].running_mean, torch.zeros(6))


def test_the_resize_is_bilinear_as_in_torch(training: Examples) -> None:
    """Two matrix products equal `interpolate` within far less than one grey level."""
    images = torch.tensor(training.images[:50])
    expected = functional.interpolate(images[:, None].float(), size=(32, 32), mode="bilinear")
    expected = (expected / 255 - 0.1307) / 0.3081
    prepared = DigitClassifier(build_network("lenet5")).prepare(images)
    torch.testing.assert_close(prepared, expected, atol=1e-5, rtol=0)
    assert resize_weights().shape == (32, 28)
