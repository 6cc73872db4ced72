"""What the pages show: plain functions over the pipeline and its ports."""
