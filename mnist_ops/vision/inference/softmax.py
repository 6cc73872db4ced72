"""The softmax with a temperature."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """The probabilities float32 (N, C) of logits (N, C) / temperature; each row sums to 1.

    Computed in float64, after the largest logit of each row is subtracted so that no exponential overflows.
    """
    scaled = logits.astype(np.float64) / temperature
    exponentials: NDArray[np.float64] = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials.astype(np.float32)
