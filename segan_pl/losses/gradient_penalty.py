"""How steeply a critic's verdict changes with what it is shown, as a penalty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_squared_slope(score: Sequence[Tensor], shown: Tensor, signs: Sequence[Tensor]) -> Tensor:
    """Mean over samples and over the numbers of a score of ||gradient of the number with respect to `shown`||^2.

    Of a critic with one number for a sample it is E||grad D(x)||^2 (Mescheder et al. 2018, eq. 9), exactly. Of one with
    n numbers, a map or features, it is ||J||^2 / n with the Jacobian J of all of them (Frobenius norm), so that the
    size of a map does not change the penalty's (ours). Its estimate takes one backward pass: ||J^T signs||^2 has that
    expectation for signs drawn independently (Hutchinson 1990).

    Args:
        score: Of the critic, with its graph to `shown`: tensors (B, ...), one or more.
        shown: (B, C, *spatial), with requires_grad.
        signs: -1 or 1 for each number of the score, in its shapes.

    Returns:
        Scalar of at least 0, with the graph of the critic's parameters; in the dtype of `shown`.
    """
    numbers = sum(layer.numel() for layer in score)
    projected = torch.stack([(layer * sign).sum() for layer, sign in zip(score, signs, strict=True)]).sum()
    (slope,) = torch.autograd.grad(projected, shown, create_graph=True)
    return slope.square().sum() / numbers
