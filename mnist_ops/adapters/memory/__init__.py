"""In-memory adapters: the shipped test doubles of every port."""
