"""The ports in memory: for tests, and for trying a step out. They pass the real adapters' contract tests."""
