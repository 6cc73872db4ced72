"""Which networks there are, and whose kernel sizes can be chosen: known without importing torch."""

from dataclasses import dataclass

from mnist_ops.domain.errors import Permanent

KernelSizes = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Kernels:
    """The kernel sizes of a network; `sizable` where others can be chosen."""

    sizes: KernelSizes
    sizable: bool = False


_KERNELS = {
    "conv20-50-500": _Kernels((5, 5), sizable=True),
    "lenet5": _Kernels((5, 5)),
    "mnistnet": _Kernels((5, 5)),
    "pytorch-example": _Kernels((3, 3)),
}
NETWORKS = tuple(_KERNELS)


def kernel_sizes_of(network: str, wanted: KernelSizes | None = None) -> KernelSizes:
    """The kernel sizes that a network gets.

    Args:
        network: one of `NETWORKS`.
        wanted: pixels of the first and second convolution's side; None for the network's own.

    Raises:
        Permanent: no network has that name, or its kernel sizes cannot be chosen.
    """
    if network not in _KERNELS:
        raise Permanent(f"network {network!r} is not one of {', '.join(NETWORKS)}")
    own = _KERNELS[network]
    if wanted is not None and wanted != own.sizes and not own.sizable:
        sizable = ", ".join(name for name, other in _KERNELS.items() if other.sizable)
        raise Permanent(
            f"kernel_sizes {wanted}: those of {network} are {own.sizes}; they can be chosen for {sizable}"
        )
    return wanted or own.sizes
