"""The names of the networks and their kernel sizes, known without importing torch."""

from dataclasses import dataclass

from mnist_ops.domain.errors import Permanent

KernelSizes = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Kernels:
    """The default kernel sizes of a network, and whether a config may choose others."""

    sizes: KernelSizes
    configurable: bool = False


_KERNELS = {
    "conv20-50-500": _Kernels((5, 5), configurable=True),
    "lenet5": _Kernels((5, 5)),
    "mnistnet": _Kernels((5, 5)),
    "pytorch-example": _Kernels((3, 3)),
}
NETWORKS = tuple(_KERNELS)


def kernel_sizes_of(network: str, wanted: KernelSizes | None = None) -> KernelSizes:
    """Return the kernel sizes that a network is built with.

    Args:
        network: one of `NETWORKS`.
        wanted: the side of the first and the second convolution's kernel, in pixels; None for the default.

    Raises:
        Permanent: there is no such network, or its kernel sizes cannot be chosen.
    """
    if network not in _KERNELS:
        raise Permanent(f"network {network!r} is not one of {', '.join(NETWORKS)}")
    kernels = _KERNELS[network]
    if wanted is not None and wanted != kernels.sizes and not kernels.configurable:
        configurable = ", ".join(name for name, other in _KERNELS.items() if other.configurable)
        raise Permanent(
            f"{network} has the kernel sizes {kernels.sizes}, not {wanted}; "
            f"other sizes can be chosen for {configurable}"
        )
    return wanted or kernels.sizes
