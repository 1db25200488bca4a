"""A version that has learned from some dozens of further good images, in seconds, without fitting the old ones again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detectors.calibration import n_taken_for_defects, threshold_with_defects
from detectors.fit import GoodImages, PreparedImage
from detectors.photographs.canvases import Canvases
from detectors.photographs.covariates import COVARIATE_NAMES
from detectors.photographs.images import to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.photographs.position import measure_position
from detectors.protocol import FitContext, Growing, Grown, Known, Progress, no_progress
from detectors.version import DetectorVersion
from halfsigma import DetectorError, ImageError, __version__


def grow_versions(
    version: DetectorVersion,
    goods: GoodImages,
    *,
    held_out: Sequence[Set[str]] = (frozenset(),),
    known_files: Mapping[str, Path],
    fpr_budget: float,
    seed: int,
    progress: Progress = no_progress,
) -> list[DetectorVersion]:
    """The version with ``goods`` added to what it knows: once for each set that is held out, as if that were not there.

    The mean image that positions are measured against, and the responses, stay the version's. In the reference the added
    images come last; ``n_added`` in the provenance says how many they are. What the version took for defects in its reference
    stays that, unless it is added.

    Args:
        version: of a family that grows.
        goods: further good images; a picture that was fitted on, in these or other bytes, is left out. Versions that an earlier
            halfsigma fitted know their files alone.
        held_out: SHA-256 of goods that are not added; by default one version with all of them.
        known_files: SHA-256 → file of images of the version's reference; those that are gone or altered are left out.
        fpr_budget: accepted share of rejected good images.
        seed: of the folds.
        progress: told of each step.

    Raises:
        DetectorError: the family does not grow, or every image was fitted on before.
    """
    model = version.model
    if not isinstance(model, Growing):
        raise DetectorError(
            f"{model.family} cannot learn from some images more without the old ones",
            hint="fit the line again on all of its good images; patchcore and padim grow",
        )
    fitted = list(cast("Iterable[str]", version.provenance["fit_images_sha256"]))
    before = {*fitted, *cast("Iterable[str]", version.provenance.get("fit_pictures_sha256", ()))}
    added = [image for image in goods.prepared if not before & {image.sha256, image.picture_sha256}]
    members = [np.array([k for k, image in enumerate(added) if image.sha256 not in out], np.int64) for out in held_out]
    if not min(map(len, members)):
        raise DetectorError(f"{len(goods.prepared)} of the images are in the version already", hint="give others")
    reference = list(cast("Iterable[str]", version.provenance["reference_images_sha256"]))
    known = Known(
        len(fitted),
        version.reference_scores,
        np.isin(reference, fitted),
        _known(version, reference, known_files, progress=progress),
    )
    grown = model.grow(
        Canvases([image.stored for image in added]),
        parts=members,
        known=known,
        context=FitContext(seed=seed, progress=progress),
    )
    return [
        _version_of(of_part, [added[k] for k in part], version, fpr_budget=fpr_budget, seed=seed)
        for part, of_part in zip(members, grown, strict=True)
    ]


def _version_of(
    grown: Grown[Growing], added: Sequence[PreparedImage], version: DetectorVersion, *, fpr_budget: float, seed: int
) -> DetectorVersion:
    fresh = [image.sha256 for image in added]
    reference, fitted, known_pictures = (
        list(cast("Iterable[str]", version.provenance.get(name, ())))
        for name in ("reference_images_sha256", "fit_images_sha256", "fit_pictures_sha256")
    )
    kept = ~np.isin(np.array(reference)[grown.known_index], fresh)  # held back before, learned from now
    known_index = grown.known_index[kept]
    scores = np.concatenate([grown.known_scores[kept], grown.fresh_scores])
    n_defects = n_taken_for_defects(
        version.reference_scores[known_index], version.threshold.value, fpr_budget=version.fpr_budget
    )
    measured = [each.appearance | measure_position(each.small, version.template) for each in added]
    return replace(
        version,
        model=grown.model,
        threshold=threshold_with_defects(scores, n_defects, fpr_budget=fpr_budget),
        reference_scores=scores,
        reference_covariates={
            name: np.concatenate([version.reference_covariates[name][known_index], [each[name] for each in measured]])
            for name in COVARIATE_NAMES
            if name in version.reference_covariates
        },
        provenance={
            **version.provenance,
            "seed": seed,
            "n_fit": len(fitted) + len(fresh),
            "n_added": len(fresh),
            "fit_images_sha256": fitted + fresh,
            "fit_pictures_sha256": known_pictures + [image.picture_sha256 for image in added],
            "reference_images_sha256": [reference[i] for i in known_index] + fresh,
            "fpr_budget": fpr_budget,
            "halfsigma": __version__,
        },
    )


def _known(
    version: DetectorVersion, reference: Sequence[str], files: Mapping[str, Path], *, progress: Progress
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The reference's images that can still be read, framed as the version frames them, with their places in it."""
    wanted = [(index, sha256) for index, sha256 in enumerate(reference) if sha256 in files]
    items = read_ahead([files[sha256] for _, sha256 in wanted])
    for done, ((index, sha256), item) in enumerate(zip(wanted, items, strict=True)):
        progress("known images", done, len(wanted))
        if isinstance(item, Unreadable) or item.sha256 != sha256:
            continue
        try:
            yield index, version.framing.frame(to_uint8_rgb(item.pixels, white_level=version.white_level))
        except ImageError:
            continue
