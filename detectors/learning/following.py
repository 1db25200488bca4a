"""A champion's student that still knows the images once they are brought to where the former ones lay: it learns nothing, and every
image stands in the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.calibration import fold_of, n_folds_of
from detectors.learning import imitation
from detectors.learning.imitation import Features
from detectors.learning.networks.compact import CompactNetwork
from detectors.patches.aggregation import TOP_SHARE, top_mean


def cross_fitted(
    features: Sequence[Features],
    in_reference: NDArray[np.bool_],
    *,
    ratio: int,
    seed: int,
    warm: Mapping[str, NDArray[np.float32]],
    whole: float,
) -> tuple[CompactNetwork, NDArray[np.float64]]:
    """The champion's network behind maps found on all images, and scores by such networks that lack the image's fold.

    Args:
        features: (n,) of the good images.
        in_reference: (n,) which of them the champion's student has not learned from; the others are in every fold's maps.
        ratio: how many times finer the stage is than the patches.
        seed: of the folds.
        warm: the champion's arrays.
        whole: the champion's share of the autoencoder's map.

    Returns:
        The network, in evaluation mode, and float64 scores of the images in the reference, in order.
    """
    fold = np.full(len(features), -1)
    n = int(in_reference.sum())
    fold[in_reference] = fold_of(n, n_folds=n_folds_of(n), rng=np.random.default_rng(seed))
    of_fold = {
        int(k): imitation.moments_of(features[i] for i in np.flatnonzero(fold == k).tolist()) for k in np.unique(fold)
    }
    patches, stages = imitation.joined(of_fold.values())

    network = imitation.build((patches, stages), ratio=ratio, seed=seed, warm=warm).eval()
    network.whole = whole
    with torch.inference_mode():
        errors = torch.cat([imitation.squared_errors(network, *pair) for pair in imitation.prepared(network, features)])
        imitation.set_weight(network, errors.mean(dim=0))
    imitation.set_map_scales(network, imitation.prepared(network, features))

    scores = np.full(len(features), np.nan)
    for k in range(int(fold.max()) + 1):
        without = (patches - of_fold[k][0], stages - of_fold[k][1])
        other = imitation.build(without, ratio=ratio, seed=seed, warm=warm).eval()
        other.whole = whole
        with torch.inference_mode():
            imitation.set_weight(other, errors[torch.from_numpy(fold != k)].mean(dim=0))
            other.scale.copy_(network.scale)
            for i in np.flatnonzero(fold == k).tolist():
                (anomaly_map,) = other(
                    *(torch.from_numpy(each)[None] for each in (features[i].patches, features[i].stage))
                )
                scores[i] = top_mean(anomaly_map.numpy(), top_share=TOP_SHARE).score
    return network, scores[in_reference]
