"""From files of good photographs to a version: choose the frame, fit, calibrate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import Doubt, conformal_threshold, n_held_out, threshold_in_doubt
from detectors.disturbances.probing import images_worth, measure_responses
from detectors.photographs.canvases import Canvases, CanvasStore, StoredCanvas
from detectors.photographs.covariates import COVARIATE_NAMES, measure_appearance
from detectors.photographs.framing import Framing
from detectors.photographs.images import to_uint8_rgb
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.photographs.position import PartTemplate, measure_position, small_gray
from detectors.protocol import Detector, FitContext, Progress, no_progress
from detectors.version import DetectorVersion
from halfsigma import ImageError, TooFewImages, __version__

MIN_FIT_IMAGES = 20
"""Fewer good images say nothing of how good images differ."""


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One good photograph, decoded once and reduced to what fitting needs."""

    path: Path
    sha256: str
    stored: StoredCanvas
    small: NDArray[np.float32]
    appearance: dict[str, float]

    @property
    def canvas(self) -> NDArray[np.uint8]:
        """(h, w, 3), framed."""
        return self.stored.load()

    @property
    def picture_sha256(self) -> str:
        """Of the canvas: the same picture in another file format, bit depth or with other metadata has the same."""
        return _picture_sha256(self.canvas)


@dataclass(frozen=True, slots=True)
class GoodImages:
    """Readable, distinct photographs of good parts, and what was left out of them."""

    prepared: tuple[PreparedImage, ...]
    unreadable: tuple[Unreadable, ...]
    n_repeated: int
    framing: Framing
    white_level: int


def prepare(
    paths: Sequence[Path], *, framing: Framing, white_level: int, progress: Progress = no_progress
) -> GoodImages:
    """Read ``paths`` once, leaving out what cannot be read and what repeats another picture.

    A picture repeats another if their canvases are equal: the detector cannot tell them apart, so one of them in a fold and the
    other outside would make the reference too low. Equal decoded pixels have equal canvases, and are dearer to hash.

    Only canvases are kept: the memory needed does not depend on the camera's resolution, and beyond
    `detectors.photographs.canvases.IN_MEMORY_BYTES` not on the number of images.

    Raises:
        TooFewImages: fewer than `MIN_FIT_IMAGES` remain.
    """
    kept: dict[str, PreparedImage] = {}
    files: set[str] = set()
    broken: list[Unreadable] = []
    n_repeated = 0
    store = CanvasStore()
    for index, item in enumerate(read_ahead(paths)):
        progress("images", index, len(paths))
        if isinstance(item, Unreadable):
            broken.append(item)
            continue
        if item.sha256 in files:
            n_repeated += 1
            continue
        try:
            image = to_uint8_rgb(item.pixels, white_level=white_level)
        except ImageError as error:
            broken.append(Unreadable(item.path, f"{item.path.name}: {error.message}"))
            continue
        files.add(item.sha256)
        canvas = framing.frame(image)
        picture = _picture_sha256(canvas)
        if picture in kept:
            n_repeated += 1
            continue
        kept[picture] = PreparedImage(
            path=item.path,
            sha256=item.sha256,
            stored=store.keep(canvas),
            small=small_gray(image),
            appearance=measure_appearance(image, original_size=(item.pixels.shape[0], item.pixels.shape[1])),
        )
    if len(kept) < MIN_FIT_IMAGES:
        raise TooFewImages(
            f"{len(kept)} distinct readable images of {len(paths)} files, expected at least {MIN_FIT_IMAGES}; "
            f"{n_repeated} repeat another, {len(broken)} cannot be used{_first_of(broken)}",
            hint="mend or replace them" if broken else "collect more good images",
        )
    return GoodImages(tuple(kept.values()), tuple(broken), n_repeated, framing, white_level)


def _first_of(broken: Sequence[Unreadable]) -> str:
    return f", first {broken[0].reason}" if broken else ""


def fit_version(
    goods: GoodImages,
    *,
    family: type[Detector],
    runtime: FeatureRuntime,
    fpr_budget: float,
    seed: int,
    progress: Progress = no_progress,
    warm_start: DetectorVersion | None = None,
    checkpoint: Path | None = None,
    core: Sequence[PreparedImage] = (),
    held_back: Sequence[PreparedImage] = (),
    doubt: Doubt | None = None,
) -> DetectorVersion:
    """A calibrated version from prepared good images.

    Args:
        goods: what `prepare` returned.
        family: of detectors.
        runtime: the frozen backbone; a retrain passes its champion's.
        fpr_budget: accepted share of rejected good images.
        seed: makes the fit repeatable, bit for bit on one machine.
        progress: told of each step.
        warm_start: a version to go on from, if its model is of the same family: a retrain passes its champion.
        checkpoint: a folder in which an unfinished training is kept.
        core: more good images to learn from that are no photographs of these conditions (`detectors.disturbances.transfer`): they
            stand neither in the reference nor in the mean image.
        held_back: photographs of these conditions that are not learned from, since some may be defects; they stand in the reference,
            as the fitted model scores them: the same share of them as of ``goods``, or its upper end would be theirs.
        doubt: where nobody verified `goods`; its numbers are of all of them and of ``held_back``.
    """
    images = goods.prepared
    learned = (*images, *core)
    context = FitContext(seed=seed, progress=progress, checkpoint=checkpoint)
    if core:
        context = replace(context, seen=np.arange(len(learned)) >= len(images))
    if warm_start is not None and warm_start.model.family == family.family:
        context = _warm(context, warm_start, learned)
    fitted = family.fit(Canvases([image.stored for image in learned]), runtime=runtime, context=context)
    is_fresh = fitted.reference_index < len(images)
    reference_index, reference_scores = fitted.reference_index[is_fresh], fitted.reference_scores[is_fresh]
    share = reference_scores.size / len(images)
    held_back = _drawn(held_back, share, seed=seed)
    reference_scores = np.concatenate(
        [reference_scores, [fitted.model.score(image.canvas).score for image in held_back]]
    )
    if doubt is not None:
        doubt = doubt.of_share(share)
    threshold = (
        conformal_threshold(reference_scores, fpr_budget=fpr_budget)
        if doubt is None
        else threshold_in_doubt(reference_scores, doubt, fpr_budget=fpr_budget)
    )
    template = PartTemplate.of([image.small for image in images])
    in_reference = [*(images[i] for i in reference_index), *held_back]
    measured = [image.appearance | measure_position(image.small, template) for image in in_reference]
    return DetectorVersion(
        framing=goods.framing,
        white_level=goods.white_level,
        runtime=runtime,
        model=fitted.model,
        template=template,
        threshold=threshold,
        reference_scores=reference_scores,
        reference_covariates={name: np.array([each[name] for each in measured]) for name in COVARIATE_NAMES},
        provenance={
            "seed": seed,
            "n_fit": len(learned),
            "n_repeated": goods.n_repeated,
            "n_unreadable": len(goods.unreadable),
            "fit_images_sha256": [image.sha256 for image in learned],
            "fit_pictures_sha256": [image.picture_sha256 for image in learned],
            "reference_images_sha256": [image.sha256 for image in in_reference],
            "fpr_budget": fpr_budget,
            "halfsigma": __version__,
        },
    )


def scores_of_fitted(version: DetectorVersion, goods: GoodImages) -> NDArray[np.float64]:
    """(n,) a score of every image of `goods`, from which ``version`` was fitted, in their order.

    The reference's where the image stands in it. A family that holds images out learned from the others: they get the
    model's own score, which flatters them a little.
    """
    in_reference = cast("list[str]", version.provenance["reference_images_sha256"])
    known = dict(zip(in_reference, version.reference_scores.tolist(), strict=True))
    return np.array(
        [
            known[image.sha256] if image.sha256 in known else version.model.score(image.canvas).score
            for image in goods.prepared
        ]
    )


def with_responses(
    version: DetectorVersion, goods: GoodImages, *, seed: int, progress: Progress = no_progress
) -> DetectorVersion:
    """The version with its `responses`, measured on some of the photographs of `goods` (read again)."""
    images = goods.prepared
    size = images[0].appearance
    n = images_worth((round(size["height"]), round(size["width"])))  # of large photographs few are enough
    order = np.random.default_rng(seed).permutation(len(images))[:n]
    photographs = [
        item.pixels for item in read_ahead([images[i].path for i in order]) if not isinstance(item, Unreadable)
    ]
    return replace(version, responses=measure_responses(version, photographs, seed=seed, progress=progress))


def _drawn(held_back: Sequence[PreparedImage], share: float, *, seed: int) -> list[PreparedImage]:
    """As large a share of them as of the others stands in the reference, in order."""
    n = round(share * len(held_back))
    drawn = np.random.default_rng(seed).choice(len(held_back), n, replace=False) if n < len(held_back) else range(n)
    return [held_back[i] for i in sorted(drawn)]


def _warm(context: FitContext, version: DetectorVersion, images: Sequence[PreparedImage]) -> FitContext:
    """With the version's model to go on from, unless it has seen so many of the images that no reference is left."""
    known = set(cast("Iterable[str]", version.provenance.get("fit_images_sha256", ())))
    seen = np.array([image.sha256 in known for image in images], bool)
    if context.seen is not None:
        seen |= context.seen
    n_new = int((~seen).sum())
    if n_new < n_held_out(len(images), n_new=n_new):
        return context
    return replace(context, warm_start=version.model, seen=seen)


def _picture_sha256(canvas: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(repr(canvas.shape).encode())
    digest.update(np.ascontiguousarray(canvas).data)
    return digest.hexdigest()
