"""Expose, judge and, where the night is drift, retrain: rung after rung, retrains beside the next rung's scoring."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from detectors.disturbances.disturbance import KINDS, Disturbance
from detectors.disturbances.ladders import Ladder
from detectors.disturbances.specimens import Specimen, prepare_disturbed, prepared_covariates, prepared_score
from detectors.fit import PreparedImage
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from drift.fdr import q_values
from drift.reference import Reference
from drift.verdict import Verdict, judge, measure
from drift.window import Window
from flows.drill.material import Material
from flows.drill.relearning import Exposure, Recipe, relearn
from flows.drill.result import BURST, Climb, Relearned, Rung
from halfsigma import TooFewImages
from registry.harm import costs, figures

BURST_SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
RETRAIN_COSTS_IMAGES = 300
"""About as long as a retrain and its trial take, for the time left."""
MOST_WAITING = 2
"""Retrains whose images are kept in memory while the next rungs are scored."""


@dataclass(slots=True)
class Rehearsal:
    """One champion, its reference and the images that it is tried on.

    `night` is the date under which the nights are judged; each is the first after its change, without a history.
    """

    champion: DetectorVersion
    reference: Reference
    recipe: Recipe
    material: Material
    night: date
    progress: Progress = no_progress
    _done: int = 0
    _total: int = 0
    _undisturbed: Exposure = field(init=False)

    def run(self, ladders: Sequence[Ladder]) -> tuple[Rung, tuple[Climb, ...], Climb]:
        """The night as it is, every ladder with what costs something earliest first, and the bursts of defects."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="retrain") as pool:
            try:
                return self._run(ladders, pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _run(self, ladders: Sequence[Ladder], pool: ThreadPoolExecutor) -> tuple[Rung, tuple[Climb, ...], Climb]:
        shares = self._burst_shares()
        n_images = len(self.material.night) + len(self.material.held_out) + len(self.material.defects)
        self._total = n_images * (1 + sum(len(ladder.rungs) for ladder in ladders))
        self._undisturbed = self._expose(None)
        undisturbed = self._judged(None, 0.0, "nothing changed", self._undisturbed)
        retrains = _Retrains(self, pool)
        climbs = []
        for ladder in ladders:
            rungs = []
            for disturbance in ladder.rungs:
                exposure = self._expose(disturbance)
                rung = self._judged(disturbance, disturbance.strength, disturbance.label, exposure)
                rungs.append(retrains.answer(rung, exposure))
            climbs.append((ladder, rungs))
        bursts = []
        for share in shares:
            exposure = self._with_defects(share)
            rung = self._judged(None, share, f"{share * 100:.0f} % of the parts are defective", exposure)
            bursts.append(retrains.answer(rung, exposure))
        finished = [
            Climb(ladder.name, ladder.title, kind.unit, kind.neutral, tuple(map(retrains.finish, rungs)))
            for ladder, rungs in climbs
            for kind in (KINDS[ladder.name],)
        ]
        of_bursts = Climb(BURST, "burst of defects", "share of the parts", 0.0, tuple(map(retrains.finish, bursts)))
        return undisturbed, tuple(sorted(finished, key=_hurts_first)), of_bursts

    def _burst_shares(self) -> tuple[float, ...]:
        n = len(self.material.night)
        return tuple(share for share in BURST_SHARES if 1 <= round(share * n) <= len(self.material.defects))

    def _expose(self, disturbance: Disturbance | None) -> Exposure:
        (night, night_scores), (held_out, held_out_scores), (defects, defect_scores) = (
            self._scored(part, disturbance, seed=self.recipe.seed + place)
            for place, part in enumerate((self.material.night, self.material.held_out, self.material.defects))
        )
        return Exposure(night, held_out, defects, night_scores, held_out_scores, defect_scores)

    def _scored(
        self, specimens: Sequence[Specimen], disturbance: Disturbance | None, *, seed: int
    ) -> tuple[tuple[PreparedImage, ...], np.ndarray]:
        images, scores = [], []
        for image in prepare_disturbed(specimens, disturbance, version=self.champion, seed=seed):
            images.append(image)
            scores.append(prepared_score(self.champion, image))
            self.advance(1)
        return tuple(images), np.array(scores)

    def _with_defects(self, share: float) -> Exposure:
        """The undisturbed night with defects in the place of some good parts, drawn anew for each share."""
        calm = self._undisturbed
        n = round(share * len(calm.night))
        rng = np.random.default_rng([self.recipe.seed, n])
        places = rng.choice(len(calm.night), n, replace=False)
        chosen = rng.choice(len(calm.defects), n, replace=False)
        night, scores = list(calm.night), calm.night_scores.copy()
        for place, defect in zip(places.tolist(), chosen.tolist(), strict=True):
            night[place] = calm.defects[defect]
            scores[place] = calm.defect_scores[defect]
        return replace(calm, night=tuple(night), night_scores=scores)

    def _judged(self, disturbance: Disturbance | None, strength: float, label: str, exposure: Exposure) -> Rung:
        threshold = self.champion.threshold.value
        calm = self._undisturbed
        return Rung(
            disturbance=disturbance,
            strength=strength,
            label=label,
            verdict=self._verdict(exposure),
            before=figures(exposure.held_out_scores, exposure.defect_scores, threshold=threshold),
            after=None,
            not_retrained="",
            costs=costs(
                good_before=calm.held_out_scores,
                good_after=exposure.held_out_scores,
                defect_before=calm.defect_scores,
                defect_after=exposure.defect_scores,
                threshold=threshold,
                seed=self.recipe.seed,
            ),
        )

    def _verdict(self, exposure: Exposure) -> Verdict:
        measured = [prepared_covariates(self.champion, image) for image in exposure.night]
        window = Window(
            night=self.night,
            scores=exposure.night_scores,
            covariates={name: np.array([each[name] for each in measured]) for name in measured[0]},
            image_hashes=tuple(image.sha256 for image in exposure.night),
        )
        measurement = measure(self.reference, [window])
        return judge(measurement, q=q_values([measurement.ks_p])[0])

    def advance(self, n: int, *, more: int = 0) -> None:
        """Tell of ``n`` done, and of ``more`` that came up."""
        self._done, self._total = self._done + n, self._total + more
        self.progress("disturbed images", self._done, self._total)


Pending = tuple[Rung, Future[Relearned] | None]


@dataclass(slots=True)
class _Retrains:
    """Retrains under way, one after the other in a thread of their own; few wait, since each holds its images."""

    rehearsal: Rehearsal
    pool: ThreadPoolExecutor
    _waiting: deque[Future[Relearned]] = field(default_factory=deque)

    def answer(self, rung: Rung, exposure: Exposure) -> Pending:
        """Start a retrain if the rung's verdict asks for one."""
        if rung.verdict.kind != "drift":
            return rung, None
        while len(self._waiting) >= MOST_WAITING:
            wait([self._waiting.popleft()])
        future = self.pool.submit(
            relearn, exposure, self.rehearsal.champion, self.rehearsal.recipe, defect_share=rung.verdict.defect_share
        )
        self._waiting.append(future)
        self.rehearsal.advance(0, more=RETRAIN_COSTS_IMAGES)
        return rung, future

    def finish(self, pending: Pending) -> Rung:
        """The rung with what its retrain came to."""
        rung, future = pending
        if future is None:
            return rung
        try:
            done = replace(rung, after=future.result())
        except TooFewImages as error:
            done = replace(rung, not_retrained=error.message)
        self.rehearsal.advance(RETRAIN_COSTS_IMAGES)
        return done


def _hurts_first(climb: Climb) -> tuple[float, float]:
    """What costs something at its weakest rungs, then what loses most detection at its strongest."""
    first = climb.first_cost
    return (len(climb.rungs) if first is None else first, min(rung.before.auroc for rung in climb.rungs))
