"""Bundles, and classifying with them; torch-free on a CPU."""
