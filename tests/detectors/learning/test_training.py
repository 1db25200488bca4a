"""The shared training: repeatable, resumable to the same bits after a real kill, stopped by held-out goods."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from detectors.backbones.module_arrays import load_arrays, module_arrays
from detectors.calibration import LEAST_FITTED, MIN_REFERENCE, conformal_threshold, hold_out, n_held_out
from detectors.learning import training
from detectors.learning.training import Plan, identity_of, train
from detectors.protocol import FitContext, no_progress
from halfsigma import DetectorError, TooFewImages
from tests.detectors.families.toy_family import PLAN, small_training

ROOT = Path(__file__).parents[3]


def _run(folder: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "tests.detectors.families.toy_family", str(folder), str(kill_at)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_training_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", -1)
    assert whole.returncode == 0, whole.stderr
    for kill_at in (40, 41, 110):
        killed = _run(tmp_path / "killed", kill_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = _run(tmp_path / "killed", -1)
    assert resumed.returncode == 0, resumed.stderr
    assert int(resumed.stdout.split()[0]) == 110, "it went on where it was"
    assert int(whole.stdout.split()[0]) == 0
    expected = load_file(tmp_path / "whole" / "weights.safetensors")
    for name, array in load_file(tmp_path / "killed" / "weights.safetensors").items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_training_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    told: list[int] = []
    first = module_arrays(small_training(tmp_path, progress=no_progress))
    again = module_arrays(small_training(tmp_path, progress=lambda what, done, total: told.append(done)))
    assert not told
    for name, array in again.items():
        np.testing.assert_array_equal(array, first[name])


def test_the_checkpoint_of_another_training_is_not_taken_up(tmp_path: Path) -> None:
    told: list[int] = []
    small_training(tmp_path, progress=no_progress, seed=1)
    small_training(tmp_path, progress=lambda what, done, total: told.append(done), seed=2)
    assert told[0] == 0
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_a_damaged_checkpoint_is_as_none(tmp_path: Path) -> None:
    expected = module_arrays(small_training(tmp_path, progress=no_progress))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    for name, array in module_arrays(small_training(tmp_path, progress=no_progress)).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_checkpoint_whose_tensors_were_lost_with_the_power_is_as_none(tmp_path: Path) -> None:
    """Header and length are there, the second half of the file never reached the disk."""
    expected = module_arrays(small_training(tmp_path, progress=no_progress))
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - 200] + bytes(200))
    for name, array in module_arrays(small_training(tmp_path, progress=no_progress)).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = module_arrays(small_training(None, progress=no_progress))
    told: list[str] = []
    monkeypatch.setattr(training._log, "warning", lambda text, *about: told.append(text % about))
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training._State, "save", full)
    found = module_arrays(small_training(tmp_path, progress=no_progress))
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    assert len(told) == 1, "once, not at each checkpoint"
    assert "cannot be written: [Errno 28] No space left" in told[0]
    assert not list(tmp_path.glob("*.safetensors"))


def test_training_leaves_torchs_own_random_stream_and_threads_as_they_were() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    small_training(None, progress=no_progress)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


class _Slope(torch.nn.Module):
    """Learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))


def test_it_stops_when_the_held_out_goods_gain_nothing_and_keeps_the_best_weights() -> None:
    """Fitted goods pull the weight towards 10, held-out ones are best at 1."""
    module = _Slope()
    done = train(
        module,
        Plan(steps=1000, learning_rate=0.05, decay="none", validate_every=5, patience=3),
        loss=lambda rng: (module.weight - 10.0).square(),
        validate=lambda: float((module.weight - 1.0).square()),
        context=FitContext(),
        identity="",
    )
    assert float(module.weight.detach()) == pytest.approx(1.0, abs=0.13)
    assert done.steps == pytest.approx(35, abs=6)
    assert done.best == min(loss for _, loss in done.validated)


def test_a_start_that_training_does_not_better_is_kept() -> None:
    module = _Slope()
    train(
        module,
        Plan(steps=30, learning_rate=0.1, validate_every=10),
        loss=lambda rng: (module.weight - 10.0).square(),
        validate=lambda: float(module.weight.square()),
        context=FitContext(),
        identity="",
    )
    assert float(module.weight.detach()) == 0.0


def test_a_loss_that_is_no_longer_finite_is_an_error_that_names_the_step() -> None:
    module = _Slope()
    with pytest.raises(DetectorError, match="nan at step 3 of 9"):
        train(
            module,
            Plan(steps=9, learning_rate=0.1),
            loss=lambda rng: module.weight * (float("nan") if module.weight.item() < -0.25 else 1.0),
            validate=lambda: 0.0,
            context=FitContext(),
            identity="",
        )


def test_the_rate_falls_as_the_plan_says() -> None:
    cosine = Plan(steps=1000, learning_rate=0.1)
    assert cosine.rate(0) == 0.1
    assert cosine.rate(250) == pytest.approx(0.1 * (1 + np.cos(np.pi / 4)) / 2)
    assert cosine.rate(999) < 1e-6
    late = Plan(steps=1000, learning_rate=0.1, decay="late")
    assert [late.rate(step) for step in (0, 949, 950)] == pytest.approx([0.1, 0.1, 0.01])


def test_arrays_of_another_network_are_refused_by_name() -> None:
    module = small_training(None, progress=no_progress)
    arrays = module_arrays(module)
    with pytest.raises(ValueError, match="down.weight"):
        load_arrays(module, {**arrays, "down.weight": np.zeros((1, 2), np.float32)})
    with pytest.raises(ValueError, match="extra"):
        load_arrays(module, {**arrays, "extra": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match="up.bias"):
        load_arrays(module, {name: array for name, array in arrays.items() if name != "up.bias"})


def test_another_backbone_is_another_training() -> None:
    canvases = [np.zeros((32, 32, 3), np.uint8)]
    backbones = [SimpleNamespace(features=lambda _, k=k: np.full((2, 2, 3), k, np.float32)) for k in (0.0, 0.0, 1.0)]
    first, again, other = (identity_of(canvases, each, "rd4ad") for each in backbones)  # type: ignore[arg-type]
    assert first == again != other


def test_another_halfsigma_is_another_training(monkeypatch: pytest.MonkeyPatch) -> None:
    canvases, backbone = [np.zeros((32, 32, 3), np.uint8)], SimpleNamespace(features=lambda _: np.zeros((2, 2, 3)))
    before = identity_of(canvases, backbone, "rd4ad")  # type: ignore[arg-type]
    monkeypatch.setattr(training, "__version__", "9.9")
    assert identity_of(canvases, backbone, "rd4ad") != before  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [MIN_REFERENCE + LEAST_FITTED, 100, 300, 4000])
def test_what_is_held_out_is_never_fitted_on(n: int) -> None:
    parts = hold_out(n, seed=1)
    assert len(parts.reference) == n_held_out(n, n_new=n) >= MIN_REFERENCE
    assert sorted([*parts.fitted, *parts.reference]) == list(range(n))
    np.testing.assert_array_equal(parts.reference, hold_out(n, seed=1).reference)
    assert not np.array_equal(parts.reference, hold_out(n, seed=2).reference)


def test_what_the_warm_start_has_seen_never_stands_in_the_reference() -> None:
    seen = np.arange(100) < 60
    assert hold_out(100, seed=0, seen=seen).reference.min() >= 60


@pytest.mark.parametrize(("n_fresh", "n_core"), [(78, 200), (57, 200), (60, 150), (20, 100)])
def test_few_new_images_beside_many_known_ones_are_shared_between_both_parts(n_fresh: int, n_core: int) -> None:
    parts = hold_out(n_fresh + n_core, seed=0, seen=np.arange(n_fresh + n_core) >= n_fresh)
    assert MIN_REFERENCE <= len(parts.reference) <= max(MIN_REFERENCE, n_fresh // 2)
    assert parts.reference.max() < n_fresh


def test_a_warm_start_holds_out_what_it_does_not_need_to_learn_from() -> None:
    parts = hold_out(300, seed=0, warm=True)
    assert (len(parts.fitted), len(parts.reference)) == (101, 199)
    threshold = conformal_threshold(np.arange(199.0), fpr_budget=0.01)
    assert (threshold.value, threshold.promised_fpr) == (197.0, pytest.approx(0.01))


@pytest.mark.parametrize(("n", "n_looked_at"), [(100, 33), (300, 99), (4000, 99)])
def test_a_look_at_the_held_out_goods_is_at_no_more_than_are_needed(n: int, n_looked_at: int) -> None:
    parts = hold_out(n, seed=1)
    assert len(parts.validation) == len(set(parts.validation)) == n_looked_at
    assert set(parts.validation) <= set(parts.reference)
    assert {parts.reference[0], parts.reference[-1]} <= set(parts.validation)


def test_too_few_images_or_too_few_new_ones_are_refused() -> None:
    with pytest.raises(TooFewImages, match="31 images"):
        hold_out(MIN_REFERENCE + LEAST_FITTED - 1, seed=0)
    with pytest.raises(TooFewImages, match="10 of them new"):
        hold_out(100, seed=0, seen=np.arange(100) >= 10)


def test_the_plan_of_the_toy_is_long_enough_for_the_kills() -> None:
    assert PLAN.steps > 110
