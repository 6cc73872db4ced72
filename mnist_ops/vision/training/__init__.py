"""Training, its checkpoints and its tracking."""
