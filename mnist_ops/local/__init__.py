"""The embedded stack, the sample digits, the demo."""
