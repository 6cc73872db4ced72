"""The networks in torch, their weights, and running them."""
