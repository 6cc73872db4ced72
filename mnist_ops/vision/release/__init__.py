"""Exporting a trained model as a bundle, with its report."""
