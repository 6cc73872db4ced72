"""From encoded bytes to a digit of 28 by 28 pixels."""
