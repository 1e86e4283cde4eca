"""One row through a booster, by XGBoost's C interface.

``Booster.inplace_predict`` and ``DMatrix`` are made for tables: for one row, what they do
around the prediction takes longer than the prediction (measured: 120 µs in place of 50 for
a margin, 290 in place of 160 for its reasons, with 100 trees). These are the same calls of
the same library, and so the same numbers to the last bit. ``handle`` and the C functions are
XGBoost's documented C API; its Python package keeps them under private names, so where
another version has moved them, the public functions do the same more slowly.

Example: ``OneRow(booster, ["q", "c"]).margin(row)`` -> ``-2.13``
"""

import ctypes
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from prospect_lib.errors import ModelError

_MARGIN, _CONTRIBUTIONS = 1, 2
_MISSING = json.dumps({"missing": math.nan, "nthread": 1}).encode()


class OneRow:
    """Margin and reasons of one row at a time; safe to share by threads.

    Args:
        booster: trained on columns of ``types``.
        types: XGBoost's feature types, ``q`` for numbers and ``c`` for categories.
    """

    def __init__(self, booster: xgb.Booster, types: Sequence[str]) -> None:
        self._booster, self._types = booster, list(types)
        self._library: Any = getattr(xgb.core, "_LIB", None)
        self._c_types = (ctypes.c_char_p * len(types))(*(kind.encode() for kind in types))

    def margin(self, row: npt.NDArray[np.float32]) -> float:
        """Log-odds of a row of shape (1, features).

        Raises:
            ModelError: XGBoost cannot predict it.
        """
        if self._library is None:
            found = self._booster.inplace_predict(
                row, predict_type="margin", validate_features=False
            )
            return float(found[0])
        (margin,) = self._predict(
            self._library.XGBoosterPredictFromDense, _interface(row), _MARGIN_CONFIG, None
        )
        return margin

    def contributions(self, row: npt.NDArray[np.float32]) -> list[float]:
        """TreeSHAP log-odds of each feature of a row (1, features) and, last, the bias.

        Raises:
            ModelError: XGBoost cannot explain it.
        """
        if self._library is None:
            data = xgb.DMatrix(row, feature_types=self._types, nthread=1)
            found = self._booster.predict(data, pred_contribs=True, validate_features=False)
            return [float(share) for share in found[0]]
        library, handle = self._library, ctypes.c_void_p()
        created = library.XGDMatrixCreateFromDense(_interface(row), _MISSING, ctypes.byref(handle))
        self._check(created)
        try:
            self._check(
                library.XGDMatrixSetStrFeatureInfo(
                    handle, b"feature_type", self._c_types, ctypes.c_uint64(len(self._types))
                )
            )
            call = library.XGBoosterPredictFromDMatrix
            return self._predict(call, handle, _CONTRIBUTIONS_CONFIG)
        finally:
            library.XGDMatrixFree(handle)

    def _predict(self, call: Any, *given: Any) -> list[float]:
        shape, result = ctypes.POINTER(ctypes.c_uint64)(), ctypes.POINTER(ctypes.c_float)()
        dimensions = ctypes.c_uint64()
        self._check(
            call(
                self._booster.handle,
                *given,
                ctypes.byref(shape),
                ctypes.byref(dimensions),
                ctypes.byref(result),
            )
        )
        # the memory is this thread's until its next prediction: copy at once
        return result[: math.prod(shape[: dimensions.value])]

    def _check(self, status: int) -> None:
        if status:
            self._library.XGBGetLastError.restype = ctypes.c_char_p
            said = self._library.XGBGetLastError().decode(errors="replace")
            raise ModelError(f"XGBoost cannot score the row: {said.splitlines()[0]}.")


def _interface(row: npt.NDArray[np.float32]) -> bytes:
    """Where the row is, in NumPy's array interface as JSON."""
    if row.dtype != np.float32 or row.ndim != 2 or not row.flags.c_contiguous:
        raise ModelError(
            f"a {row.dtype} array of shape {row.shape} is no row: expected float32, shape "
            "(1, features), without gaps. Make it with Encoder.row."
        )
    address = row.__array_interface__["data"][0]
    return b'{"data":[%d,true],"shape":[1,%d],"typestr":"<f4","version":3}' % (
        address,
        row.shape[1],
    )


def _config(kind: int) -> bytes:
    every = {"iteration_begin": 0, "iteration_end": 0, "training": False, "strict_shape": False}
    return json.dumps({"type": kind, "missing": math.nan, "cache_id": 0, **every}).encode()


_MARGIN_CONFIG, _CONTRIBUTIONS_CONFIG = _config(_MARGIN), _config(_CONTRIBUTIONS)
