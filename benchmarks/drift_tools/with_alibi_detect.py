"""alibi-detect: KSDrift, and MMDDrift with its hundred permutations."""

from __future__ import annotations

import alibi_detect
import numpy as np
import torch
from alibi_detect.cd import KSDrift, MMDDrift
from method import Clock, Judged, Scores, evidence, judged

torch.set_num_threads(1)

MMD_MOST_IMAGES = 100
"""A night of 400 takes MMD a quarter of a second: it is asked about smaller nights only …"""
MMD_EVERY_NIGHTS = 5
"""… and in years about every fifth."""


class AlibiDetect:
    version = alibi_detect.__version__

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        asked = nights[first_judged:, :, None].astype(np.float32)
        usual = reference[:, None].astype(np.float32)
        ks, mmd = KSDrift(usual), MMDDrift(usual, backend="pytorch", device="cpu")
        every = MMD_EVERY_NIGHTS if len(asked) > 2 * MMD_EVERY_NIGHTS else 1
        ks_answers, mmd_answers = [], []
        for index, scores in enumerate(asked):
            found = ks.predict(scores)["data"]
            ks_answers.append((bool(found["is_drift"]), evidence(float(found["p_val"][0]))))
            if scores.shape[0] > MMD_MOST_IMAGES or index % every:
                mmd_answers.append((False, np.nan))
                continue
            found = mmd.predict(scores)["data"]
            mmd_answers.append((bool(found["is_drift"]), float(found["distance"] / found["distance_threshold"])))
        return {"KSDrift": judged(ks_answers), "MMDDrift": judged(mmd_answers)}

    def clocks(self) -> dict[str, Clock]:
        def ks(references: Scores, nights: Scores) -> None:
            for reference, scores in zip(references, nights, strict=True):
                KSDrift(reference[:, None]).predict(scores[:, None])

        def mmd(references: Scores, nights: Scores) -> None:
            for reference, scores in zip(references, nights, strict=True):
                MMDDrift(reference[:, None], backend="pytorch", device="cpu").predict(scores[:, None])

        return {"KSDrift": ks, "MMDDrift": mmd}


TOOL = AlibiDetect
