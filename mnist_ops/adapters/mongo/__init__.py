"""MongoDB: the records, and the pipeline's own registries."""
