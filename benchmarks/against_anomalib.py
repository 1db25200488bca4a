"""halfsigma and anomalib side by side: rebuilding the bank, and scoring one image.

    .venv/bin/python -m benchmarks.against_anomalib            15 minutes; writes docs/measured/
    .venv/bin/python -m benchmarks.against_anomalib --quick    2 minutes; a tenth of the patches, only prints

As a Makefile recipe: ``bench-anomalib: ; $(PYTHON) -m benchmarks.against_anomalib``. The first run installs
anomalib into ``.bench-venv``. Both sides get the same images, the same weights of the same network (the
embedded Lite0, stages at 1/8 and 1/16), the same bank, the same processors and thread count, and take turns,
so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2


def _confine(n_threads: int) -> None:
    """Keep this process and its children to `n_threads` processors; before any library counts them."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(n_threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-n_threads:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=Path, default=ROOT / ".bench-venv", help="anomalib's environment")
    parser.add_argument("--quick", action="store_true", help="a tenth of the patches, few repetitions, no file written")
    parser.add_argument("--only", choices=["coreset", "inference"], help="one half of the comparison")
    parser.add_argument("--rounds", type=int, default=2, help="turns of the coreset (anomalib's takes minutes)")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--images", type=Path, help="a folder of images (default: ../shared/data, else skimage's)")
    options = parser.parse_args()
    _confine(options.threads)

    # Only now: these libraries read the thread settings when they are imported.
    from benchmarks import anomalib_bank, anomalib_latency
    from benchmarks.anomalib_client import AnomalibWorker, prepare
    from benchmarks.anomalib_material import Material, describe_machine

    python = prepare(options.environment)
    with tempfile.TemporaryDirectory(prefix="against-anomalib-") as name:
        folder = Path(name)
        worker = AnomalibWorker(python, log=folder / "anomalib.log")
        try:
            theirs = worker.ask("hello")
            material = Material.gather(folder, images=options.images, n_images=30 if options.quick else 300)
            parts = [describe_machine(theirs, material, threads=options.threads)]
            if options.only != "inference":
                parts.append(
                    anomalib_bank.compare(worker, material, folder, quick=options.quick, rounds=options.rounds)
                )
                print(parts[-1], file=sys.stderr, flush=True)
            if options.only != "coreset":
                parts.append(anomalib_latency.compare(worker, material, folder, quick=options.quick))
        finally:
            worker.close()
    report = "\n\n".join(parts) + "\n"
    print(report)
    if not options.quick and options.only is None:
        (ROOT / "docs" / "measured" / "against_anomalib.md").write_text(report)


if __name__ == "__main__":
    main()
