"""Columns one after another, the error of each made good by those behind it: the mechanism of all uses.

With H⁻¹ = UᵀU, U upper triangular, fixing column j of W at q costs e² per row with e = (w_j - q)/U_jj, and
what the free columns can still do about it is to become w - e·U_j: optimal brain surgeon with the columns
before j frozen (Hassibi and Stork 1993). Over all columns W - Q = E·U, so that the squared output error
(W - Q)·H·(W - Q)ᵀ of a row is the sum of its e², exactly.

References: Frantar and Alistarh 2023, "SparseGPT", arXiv:2301.00774; Frantar et al. 2023, "GPTQ",
arXiv:2210.17323, for the Cholesky factor and blocks of columns that are updated late.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 128  # columns
DAMPING = 0.01  # of the mean of H's diagonal, added to it
ATTEMPTS = 6  # at a factor, the damping ten times larger in each

Choose = Callable[[Tensor, Tensor, int], Tensor]


def damped(hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """H with a share of its mean diagonal added, by which inputs that are always zero count a little.

    >>> damped(torch.diag(torch.tensor([2.0, 0.0]))[None], 0.5)[0].diagonal().tolist()
    [2.5, 0.5]
    """
    result = hessian.clone()
    diagonal = result.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    diagonal += damping * torch.where(mean > 0, mean, torch.ones_like(mean))
    return result


def factor_of(hessian: Tensor) -> Tensor:
    """U, (groups, inputs, inputs), upper triangular, with UᵀU = H⁻¹.

    Where rounding leaves H indefinite, more is added to its diagonal.

    >>> factor_of(torch.tensor([[[4.0, 0.0], [0.0, 0.25]]]))[0].diagonal().tolist()
    [0.5, 2.0]
    """
    added = 0.0
    for attempt in range(ATTEMPTS):
        lower, failed = torch.linalg.cholesky_ex(damped(hessian, added) if added else hessian)
        if not bool(failed.any()):
            break
        added = DAMPING * 10**attempt
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    return factor


def sweep(weights: Tensor, factor: Tensor, choose: Choose, *, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """What `choose` makes of each column, and the squared output error of each row.

    Parameters
    ----------
    weights: (groups, rows, columns)
    factor: U of each group, see `factor_of`
    choose: (values of this column and those behind it in the block (groups, rows, n), their diagonal of U
        (groups, n), column) -> the column's new values (groups, rows)
    block: columns after which those behind are brought up to date

    Returns the new weights, and the errors (groups, rows), each (w - q)·H·(w - q)ᵀ.
    """
    current, chosen = weights.clone(), torch.empty_like(weights)
    loss = weights.new_zeros(weights.shape[:2])
    diagonal = factor.diagonal(dim1=1, dim2=2)
    for start in range(0, weights.shape[2], block):
        stop = min(start + block, weights.shape[2])
        errors = weights.new_zeros(*weights.shape[:2], stop - start)
        for column in range(start, stop):
            values = chosen[..., column] = choose(current[..., column:stop], diagonal[:, column:stop], column)
            error = (current[..., column] - values) / diagonal[:, column, None]
            current[..., column:stop] -= error[..., None] * factor[:, None, column, column:stop]
            errors[..., column - start] = error
        loss += errors.square().sum(2)
        current[..., stop:] -= errors @ factor[:, start:stop, stop:]
    return chosen, loss


def output_error(difference: Tensor, hessian: Tensor) -> Tensor:
    """d·H·dᵀ of each row d of (groups, rows, columns); (groups, rows)."""
    return ((difference @ hessian) * difference).sum(2)


def refit(weights: Tensor, start: Tensor, mask: Tensor, hessian: Tensor, *, steps: int = 50) -> Tensor:
    """The values at the places of a mask whose output is nearest that of `weights`: least squares.

    Conjugate gradients of all rows at once, from `start`; each step lowers the error of each row.

    Parameters
    ----------
    weights, start: (groups, rows, columns)
    mask: where values may be other than zero; of the same shape
    """
    values = start * mask
    residual = ((weights - values) @ hessian) * mask
    direction, size = residual.clone(), residual.square().sum(2, keepdim=True)
    least = 1e-20 * size.clamp(min=torch.finfo(size.dtype).tiny)
    for _ in range(steps):
        turned = (direction @ hessian) * mask
        bend = (direction * turned).sum(2, keepdim=True)
        length = torch.where((bend > 0) & (size > least), size / bend, 0.0)
        values, residual = values + length * direction, residual - length * turned
        smaller = residual.square().sum(2, keepdim=True)
        direction = residual + torch.where(size > 0, smaller / size, 0.0) * direction
        size = smaller
    return values


def descend(weights: Tensor, start: Tensor, hessian: Tensor, choose: Choose, *, block: int = BLOCK) -> Tensor:
    """Columns chosen anew one after another, all others staying as they are: coordinate descent.

    `choose` is that of `sweep`; it is given the one value at which the output's error is least as things
    stand, and 1/√H_jj, so that (w - q)² over its square is again the squared error that q costs.

    Reference: Nair and Suggala 2024, "CDQuant", arXiv:2406.17542.
    """
    chosen = start.clone()
    slope = (weights - chosen) @ hessian
    bend = hessian.diagonal(dim1=1, dim2=2)
    for first in range(0, weights.shape[2], block):
        stop = min(first + block, weights.shape[2])
        inner, changes = slope[..., first:stop].clone(), weights.new_zeros(*weights.shape[:2], stop - first)
        for column in range(first, stop):
            best = chosen[..., column] + inner[..., column - first] / bend[:, column, None]
            values = choose(best[..., None], bend[:, column, None].rsqrt(), column)
            change = values - chosen[..., column]
            inner -= change[..., None] * hessian[:, None, column, first:stop]
            chosen[..., column], changes[..., column - first] = values, change
        slope -= changes @ hessian[:, first:stop]
    return chosen
