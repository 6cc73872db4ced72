"""Experiment trackers: TensorBoard, SQLite, MLflow and the console."""
