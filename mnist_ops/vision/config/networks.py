"""The names of the networks and their kernel sizes, known without importing torch."""

from mnist_ops.domain.errors import Permanent

KernelSizes = tuple[int, int]


_DEFAULT_SIZES = {"conv20-50-500": (5, 5), "lenet5": (5, 5), "mnistnet": (5, 5), "pytorch-example": (3, 3)}
_CONFIGURABLE = ("conv20-50-500",)  # a config may choose other sizes
NETWORKS = tuple(_DEFAULT_SIZES)


def kernel_sizes_of(network: str, wanted: KernelSizes | None = None) -> KernelSizes:
    """Return the kernel sizes that a network is built with.

    Args:
        network: one of `NETWORKS`.
        wanted: the side of the first and the second convolution's kernel, in pixels; None for the default.

    Raises:
        Permanent: there is no such network, or its kernel sizes cannot be chosen.
    """
    if network not in _DEFAULT_SIZES:
        raise Permanent(f"network {network!r} is not one of {', '.join(NETWORKS)}")
    sizes = _DEFAULT_SIZES[network]
    if wanted is not None and wanted != sizes and network not in _CONFIGURABLE:
        raise Permanent(
            f"{network} has the kernel sizes {sizes}, not {wanted}; "
            f"other sizes can be chosen for {', '.join(_CONFIGURABLE)}"
        )
    return wanted or sizes
