"""The use cases, one a file, in the order of the pipeline."""
