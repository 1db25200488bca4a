"""The MLflow model from code: ``mlflow.pyfunc.load_model("models:/halfsigma.<line>@champion")`` judges photographs.

MLflow runs this file when the model is loaded; nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModelContext

from detectors.artifact import load_version
from detectors.photographs.images import Pixels, check_size, read_photograph
from halfsigma import ImageError

VERSION_ARTIFACT = "version"
COLOURS = (3, 4)
"""Channels of a colour image; the fourth, transparency, is no matter."""


class HalfsigmaModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # untyped in MLflow
    """Image paths or arrays in, one row of score, threshold and verdict each out."""

    _skip_type_hint_validation = True  # else MLflow warns at every load that paths or arrays are no schema of its own

    def load_context(self, context: PythonModelContext) -> None:
        self._version = load_version(Path(context.artifacts[VERSION_ARTIFACT]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads hints as schema
        """Score each image by itself.

        Args:
            context: unused.
            model_input: paths, or arrays (h, w) or (h, w, 3) of uint8 or uint16, in a list, a numpy array (n, h, w[,
                3]) or the first column of a data frame; or one of them by itself.
            params: unused.

        Returns:
            Columns ``score`` (float64), ``threshold`` (float64) and ``rejected`` (bool), a row an image.
        """
        judged = [self._version.score(_pixels(item)) for item in _items(model_input)]
        return pd.DataFrame(
            {
                "score": [each.score for each in judged],
                "threshold": self._version.threshold.value,
                "rejected": [each.rejected for each in judged],
            }
        )


def _items(model_input: Any) -> list[Any]:
    if isinstance(model_input, pd.DataFrame):
        return list(model_input.iloc[:, 0])
    if isinstance(model_input, np.ndarray) and model_input.dtype.kind == "u" and _is_one_image(model_input.shape):
        return [model_input]
    return [model_input] if isinstance(model_input, str | Path) else list(model_input)


def _is_one_image(shape: tuple[int, ...]) -> bool:
    """No gray image is three or four pixels wide, so that (h, w, 3) is never (n, h, w)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in COLOURS)


def _pixels(item: Any) -> Pixels:
    if isinstance(item, str | Path):
        return read_photograph(Path(item)).pixels
    array = np.asarray(item)
    if array.dtype not in (np.uint8, np.uint16) or not _is_one_image(array.shape):
        raise ImageError(
            f"an array of {array.dtype} with shape {array.shape}, expected uint8 or uint16, (h, w) or (h, w, 3)",
            hint="give a path, or the camera's pixels as they are",
        )
    array = array[..., :3] if array.ndim == 3 else array
    check_size(array, name="an array")
    return array


mlflow.models.set_model(HalfsigmaModel())
