"""Training configurations: schema, files, sweeps."""
