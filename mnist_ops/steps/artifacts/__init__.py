"""How the steps' objects are laid out in the store: parts, shards, data sets, bundles, checkpoints."""
