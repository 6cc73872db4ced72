"""Labelled examples and their folds."""
