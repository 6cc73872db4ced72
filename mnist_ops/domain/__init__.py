"""Plain values and rules: standard library only."""
