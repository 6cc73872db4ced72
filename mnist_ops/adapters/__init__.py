"""One client library each, behind the ports of mnist_ops.domain.ports."""
