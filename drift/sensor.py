"""Images that no part explains: black, saturated, frozen, of the wrong size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.reference import Reference
from drift.window import Window

BLACK_BRIGHTNESS = 0.02
FLAT_CONTRAST = 0.02
"""Of the full range 0..1: five gray levels of 8 bits, below any picture of a part."""
SATURATED_SHARE = 0.9
"""Of an image's pixels at black or white."""
FROZEN_REPEATS = 5
"""The same bytes so often are no coincidence: sensor noise alone makes every photograph different."""
FAULT_SHARE = 0.1
"""A tenth of the night's images faulty is a fault of the camera, fewer are left out and named."""

UNREADABLE_SHARE = 0.5
"""A few broken files are listed and left out; when half cannot be read, something is wrong with all of them."""


@dataclass(frozen=True, slots=True)
class SensorFault:
    """`kind` is black, saturated, frozen, wrong_size, unreadable, another_part or stuck_scores; `phrase` says it to people."""

    kind: str
    share: float
    phrase: str


def faulty_images(reference: Reference, window: Window) -> dict[str, NDArray[np.bool_]]:
    """For each kind of fault the (n,) mask of the images that show it; only kinds that can be seen are named."""
    found: dict[str, NDArray[np.bool_]] = {}
    covariates, usual = window.covariates, reference.covariates
    if "brightness" in covariates and "contrast" in covariates:
        flat = covariates["contrast"] < min(FLAT_CONTRAST, 0.5 * _lowest(usual, "contrast"))
        dark = covariates["brightness"] < min(BLACK_BRIGHTNESS, 0.5 * _lowest(usual, "brightness"))
        found["black"] = flat & dark
    if "saturation" in covariates and not np.median(usual.get("saturation", np.zeros(1))) > 0.5:
        black = found.get("black", np.zeros(window.n, dtype=bool))
        found["saturated"] = (covariates["saturation"] > SATURATED_SHARE) & ~black
    if window.image_hashes:
        found["frozen"] = _frozen(window.image_hashes)
    for side in ("width", "height"):
        if side in covariates and side in usual:
            low, high = float(usual[side].min()), float(usual[side].max())
            slack = 0.0 if low == high else 0.1 * high  # a line with crops of many sizes has no single right one
            wrong = (covariates[side] < low - slack) | (covariates[side] > high + slack)
            found["wrong_size"] = found.get("wrong_size", np.zeros(window.n, dtype=bool)) | wrong
    return {kind: mask for kind, mask in found.items() if mask.any()}


def sensor_fault(window: Window, faults: Mapping[str, NDArray[np.bool_]]) -> SensorFault | None:
    """The commonest fault, if a tenth of the night's images or more show one, or half of the files cannot be read."""
    files = window.n + window.n_unreadable
    if files == 0:
        return None
    counts = {name: int(mask.sum()) for name, mask in faults.items()}
    faulty = int(np.logical_or.reduce(list(faults.values())).sum()) if faults else 0
    if window.n_unreadable >= UNREADABLE_SHARE * files:
        counts = {"unreadable": window.n_unreadable}
    elif faulty == 0 or faulty < FAULT_SHARE * files:
        return None
    kind = max(counts, key=lambda name: counts[name])
    wording = {
        "black": "are black",
        "saturated": "are saturated (almost every pixel at black or white)",
        "frozen": "repeat the very same picture: the camera is frozen",
        "wrong_size": "have another size than the reference's",
        "unreadable": "cannot be read",
    }
    return SensorFault(
        kind=kind, share=counts[kind] / files, phrase=f"{counts[kind]} of {files} images {wording[kind]}"
    )


def _lowest(covariates: Mapping[str, NDArray[np.float64]], name: str) -> float:
    return float(covariates[name].min()) if name in covariates else np.inf


def _frozen(hashes: tuple[str, ...]) -> NDArray[np.bool_]:
    """Images whose bytes came at least FROZEN_REPEATS times that night."""
    _, inverse, counts = np.unique(np.array(hashes), return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] >= FROZEN_REPEATS)


FAR_SHIFT_SD = 6.0
"""No lamp or lens of a working station moves the scores so far with every feature of the picture out of range too."""


def shows_no_part(
    reference: Reference,
    scores: NDArray[np.float64],
    covariates: Mapping[str, NDArray[np.float64]],
    *,
    bulk_shift_sd: float,
) -> SensorFault | None:
    """What makes of sound pictures a night that says nothing of the part: another one, or scores that stand still."""
    return another_part(reference, covariates, bulk_shift_sd=bulk_shift_sd) or stuck_scores(reference, scores)


STUCK_SHARE, USUAL_EQUAL_SHARE = 0.5, 0.1
"""Of a night's scores that are one and the same number; of the reference's, so many that a detector counts in steps."""
LEAST_STUCK = 5


def stuck_scores(reference: Reference, scores: NDArray[np.float64]) -> SensorFault | None:
    """A detector that gives every second image or more the very same score (n,), which the reference's did not."""
    n_equal = _most_equal(scores)
    usual = _most_equal(reference.scores) / reference.n
    if n_equal < max(LEAST_STUCK, STUCK_SHARE * len(scores)) or usual > USUAL_EQUAL_SHARE:
        return None
    return SensorFault(
        kind="stuck_scores",
        share=n_equal / len(scores),
        phrase=f"{n_equal} of {len(scores)} images have the very same score: the detector stands still",
    )


def _most_equal(scores: NDArray[np.float64]) -> int:
    return int(np.unique(scores, return_counts=True)[1].max(initial=0))


def another_part(
    reference: Reference, covariates: Mapping[str, NDArray[np.float64]], *, bulk_shift_sd: float
) -> SensorFault | None:
    """Pictures that show something else: far scores, and light, contrast, detail and grain *all* beyond the reference.

    Contrast is taken over brightness and noise over contrast, so that one lamp counts once; a lamp and a lens that age
    together still leave one of the four where it was.
    """
    usual, tonight = _features(reference.covariates), _features(covariates)
    if usual is None or tonight is None or bulk_shift_sd < FAR_SHIFT_SD:
        return None
    for known, seen in zip(usual, tonight, strict=True):
        middle, slack = float(np.median(seen)), 0.5 * float(known.std())
        if float(known.min()) - slack <= middle <= float(known.max()) + slack:
            return None
    return SensorFault(
        kind="another_part",
        share=1.0,
        phrase=(
            f"light, contrast, detail and grain of the pictures are all outside the reference's, and they score "
            f"{bulk_shift_sd:.0f} standard deviations higher: this looks like another part"
        ),
    )


def _features(covariates: Mapping[str, NDArray[np.float64]]) -> list[NDArray[np.float64]] | None:
    if not {"brightness", "contrast", "sharpness", "noise"} <= set(covariates) or not len(covariates["brightness"]):
        return None
    brightness, contrast = covariates["brightness"], np.maximum(covariates["contrast"], 1e-6)
    return [
        brightness,
        contrast / np.maximum(brightness, 1e-6),
        covariates["sharpness"],
        covariates["noise"] / contrast,
    ]
