"""`python -m mnist_ops` is `mnist-ops`."""

from mnist_ops.cli import main

if __name__ == "__main__":
    main()
