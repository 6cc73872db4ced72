"""The formats of the steps' objects in the store: parts, shards, data sets, bundles, checkpoints."""
