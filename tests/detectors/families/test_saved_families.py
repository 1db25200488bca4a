"""A saved version of any family, in a process that has neither torch nor what trained it; altered, it is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.artifact import MANIFEST, load_version, save_version
from detectors.backbones.runtime import FeatureRuntime
from detectors.families import draem, efficientad
from detectors.families.fastflow import FastFlow
from detectors.families.names import FAMILIES
from detectors.families.rd4ad import Rd4ad
from detectors.fit import GoodImages, fit_version
from detectors.version import DetectorVersion
from halfsigma import ArtifactError

ROOT = Path(__file__).parents[3]
TRAINING = ("torch", "timm", "detectors.fit", "detectors.learning.networks", "detectors.learning.imitation")
SCORE_WITHOUT_TRAINING = f"""
import json, sys
for name in {TRAINING}:
    sys.modules[name] = None  # to import it is an error
from pathlib import Path
import numpy as np
from detectors.artifact import load_version
version = load_version(Path(sys.argv[1]))
rng = np.random.default_rng(0)
judged = [version.score(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((96, 112), (112, 96))]
print(json.dumps([[each.score.hex(), each.anomaly_map.tobytes().hex()] for each in judged]))
"""

Saved = tuple[DetectorVersion, Path]


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def saved(
    request: pytest.FixtureRequest, goods: GoodImages, runtime: FeatureRuntime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Saved]:
    """A version of the family; what is trained has six steps, which is enough to have weights of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (draem, efficientad):
            patch.setattr(module, "FROM_SCRATCH", replace(module.FROM_SCRATCH, steps=6, validate_every=3))
        for family in (Rd4ad, FastFlow):
            patch.setattr(family, "from_scratch", replace(family.from_scratch, steps=6, validate_every=3))
        patch.setattr(draem, "SPOILT", 12)
        version = fit_version(goods, family=FAMILIES[request.param], runtime=runtime, fpr_budget=0.05, seed=0)
    folder = tmp_path_factory.mktemp(request.param) / "version"
    save_version(version, folder)
    yield version, folder


def test_it_scores_bit_for_bit_alike_in_a_process_that_cannot_train(saved: Saved) -> None:
    version, folder = saved
    done = subprocess.run(
        [sys.executable, "-c", SCORE_WITHOUT_TRAINING, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rng = np.random.default_rng(0)
    judged = [version.score(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((96, 112), (112, 96))]
    assert json.loads(done.stdout) == [[each.score.hex(), each.anomaly_map.tobytes().hex()] for each in judged]


def test_each_of_its_files_is_refused_when_altered_or_truncated(saved: Saved, tmp_path: Path) -> None:
    _, folder = saved
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    assert "model.safetensors" in names
    for name in names:
        data = (folder / name).read_bytes()
        middle = len(data) // 2
        altered = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        for what, content in (("altered", altered), ("truncated", data[:middle])):
            copied = Path(shutil.copytree(folder, tmp_path / what / name))
            (copied / name).write_bytes(content)
            with pytest.raises(ArtifactError, match=f"{name} has .*altered or truncated") as caught:
                load_version(copied)
            assert caught.value.hint
