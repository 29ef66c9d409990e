"""Labels as whole numbers from 0 on, or why they are no classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from capacity.errors import InputError


def array_of(labels: Any) -> NDArray[Any]:
    """Labels of any kind as an array, a tensor's from its device."""
    return np.asarray(labels.detach().cpu().to_dense() if hasattr(labels, "detach") else labels)


def class_codes(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The names of the classes, sorted, and for each label the place of its own: (classes,) and (rows,).

    Raises InputError for NaN, labels of several types, and fractions, which are targets of a regression.

    >>> class_codes(np.array(["no", "yes", "no"]))[1].tolist()
    [0, 1, 0]
    """
    if labels.dtype.kind == "f":
        if np.isnan(labels).any():
            raise InputError(f"label {int(np.argwhere(np.isnan(labels))[0, 0])} is NaN")
        fractions = labels[labels != np.round(labels)]
        if len(fractions):
            raise InputError(
                f"labels hold fractions such as {fractions[0]:.4g}: targets of a regression are no classes; "
                f"`requirement` takes them with a tolerance"
            )
    try:
        names, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        raise InputError(
            f"labels must all be of one type, found {', '.join(kinds)}; drop missing ones"
        ) from error
    return names, codes.reshape(-1)


def is_one_hot(labels: NDArray[Any]) -> bool:
    """Whether each row has a one for its class among zeros, (rows, two classes or more).

    >>> is_one_hot(np.eye(3)), is_one_hot(np.array([[0], [1]]))
    (True, False)
    """
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf":
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all())


def require_two_classes(names: NDArray[Any], why: str) -> None:
    """Raise InputError where all labels are of one class."""
    if len(names) < 2:
        raise InputError(f"all labels are {names.tolist()[0]!r}: {why}")
