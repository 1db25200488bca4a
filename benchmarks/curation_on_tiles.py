"""What a bank is worth that learned from a drifted night with unlabelled defects in it, curated in several ways.

    python -m benchmarks.curation_on_tiles --seeds 1 --cache /tmp/curation

For each seed: a champion of 300 goods; for each drift a night of 300 other goods with 0, 2, 5, 10 and 20 % of real defects
mixed in, all disturbed alike; AUROC on held-out goods and held-out defects under the same drift. Side by side: the
champion, the transferred bank alone, clean (the night without its defects), dirty (all of it), SoftPatch (all of it), the
curation, and the curation after a person's verdict on the twenty most suspicious images.

Banks have 1,024 patches. What the disturbance was is estimated once a drift,
on the night with 10 % of defects, as a retrain does. The second look of a retrain is not in it, on neither side. *waits*: a retrain
of such a night learns nothing before a person has looked at the twenty; what it would be worth without is shown all the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.curation_trials import Trials, Worth
from benchmarks.drifted_nights import (
    DRIFTS,
    ESTIMATED_AT,
    FPR_BUDGET,
    N_NIGHT,
    PARTS,
    SHARES,
    TRANSFERRED,
    Night,
    Station,
    n_defects,
    night_at,
)
from detectors.calibration import Doubt, conformal_threshold
from registry.gates import auroc


def try_drift(night: Night, name: str) -> tuple[list[str], list[str]]:
    """Rows of the table by share, and of the one by kind of defect."""
    trials = Trials(night)
    everything = [f"g{i}" for i in range(N_NIGHT)]
    clean = trials.worth(trials.learned(everything, with_core=False))
    rows, by_kind = [], []
    for share in SHARES:
        n = n_defects(share)
        mixed = everything + [f"d{i}" for i in range(n)]
        dirty = clean if n == 0 else trials.worth(trials.learned(mixed, with_core=False))
        soft = trials.worth(trials.softpatch(mixed))
        results, left = {}, {}
        with_core = trials.judge_of(share) is not None
        for how, verdicts in (("now", False), ("verdicts", True)):
            done = trials.curated(share, verdicts=verdicts)
            chosen = [each.sha256 for each in done.chosen if each.sha256 not in done.held_back]
            results[how] = trials.worth(trials.learned(chosen, with_core=with_core))
            left[how] = sum(each[0] == "d" for each in chosen), N_NIGHT - sum(each[0] == "g" for each in chosen)
            if how == "now":
                estimate = f"{done.defect_share:.1%}{' (waits)' if done.waits else ''}"
                rates = trials.at_the_threshold(
                    chosen,
                    with_core=with_core,
                    held_back=sorted(done.held_back),
                    doubt=Doubt(night.reference_scores, done.n_defects, done.n_perhaps_good),
                )
        now, said = results["now"].auroc, results["verdicts"].auroc
        rows.append(
            f"| {name} | {share:.0%} | {clean.auroc:.3f} | {dirty.auroc:.3f} | {soft.auroc:.3f} | {now:.3f} | {said:.3f} | "
            + "".join(f"{_recovered(each, dirty, clean)} | " for each in (soft.auroc, now, said))
            + f"{estimate} | {left['now'][0]} of {n} | {left['now'][1]} | {rates[0]:.1%} | {rates[1]:.0%} |"
        )
        print(rows[-1], flush=True)
        if share == ESTIMATED_AT:
            by_kind = [
                f"| {name} | {kind} | {clean.by_kind[kind]:.3f} | {dirty.by_kind[kind]:.3f} | "
                f"{soft.by_kind[kind]:.3f} | {results['now'].by_kind[kind]:.3f} | "
                f"{results['verdicts'].by_kind[kind]:.3f} |"
                for kind in clean.by_kind
            ]
    rejected = trials.at_the_threshold(everything, with_core=False)
    print(f"{name}: clean rejects {rejected[0]:.1%} of the goods and {rejected[1]:.0%} of the defects", flush=True)
    return rows, by_kind


def _recovered(found: float, dirty: Worth, clean: Worth) -> str:
    loss = clean.auroc - dirty.auroc
    return "–" if loss < 0.01 else f"{(found - dirty.auroc) / loss:.0%}"


def try_transfer(night: Night, name: str) -> str:
    """The transferred bank alone beside the champion and a bank of the night's goods."""
    trials = Trials(night)
    held = night.scores["held_good"]
    before = auroc(held, night.scores["held_defect"])
    memory, judge = trials.aligned(ESTIMATED_AT)
    alone = trials.worth(memory).auroc
    clean = trials.worth(trials.learned([f"g{i}" for i in range(N_NIGHT)], with_core=False)).auroc
    limit = conformal_threshold(judge.usual, fpr_budget=FPR_BUDGET).value
    fpr = float((trials.scores(memory, "held_good") > limit).mean())
    gain = "–" if clean - before < 0.01 else f"{(alone - before) / (clean - before):.0%}"
    return (
        f"| {name} | {night.named} | {before:.3f} | {alone:.3f} | {clean:.3f} | {gain} | "
        f"{float((held > night.threshold).mean()):.1%} | {fpr:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(PARTS), default="tiles")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--drift", action="append", help="one or more of them; by default all")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for features, some 150 MB a drift")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    names = asked.drift or [*DRIFTS, *TRANSFERRED]  # `COLOURED` by name, of a part in colour
    stations: dict[int, Station] = {}
    by_kind, alone = [], []
    for seed in range(asked.first, asked.first + asked.seeds):
        print(
            f"\nseed {seed}\n\n| drift | defects | clean | dirty | SoftPatch | curated | "
            "after 20 verdicts | recovered by SoftPatch | curated | after verdicts | estimated | learned | "
            "goods not learned | false positives | recall |\n" + "|---" * 15 + "|"
        )
        for name in names:
            night = night_at(asked.part, seed, name, asked.cache, stations)
            if name in DRIFTS:
                by_kind += try_drift(night, name)[1]
            alone.append(try_transfer(night, name))
    print(
        "\n10 % of defects, by kind\n\n| drift | kind | clean | dirty | SoftPatch | now | after 20 verdicts |\n"
        + "|---" * 7
        + "|"
    )
    print("\n".join(by_kind))
    print(
        "\nDrift transfer alone\n\n| drift | named | champion | transferred | clean | recovered | false positives before | "
        "transferred |\n" + "|---" * 8 + "|"
    )
    print("\n".join(alone))


if __name__ == "__main__":
    main()
