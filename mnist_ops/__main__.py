"""`python -m mnist_ops` runs the same command line as `mnist-ops`."""

from mnist_ops.cli import main

if __name__ == "__main__":
    main()
