"""The training loop of every family that learns by gradient descent: repeatable, resumable, stopped by held-out goods."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime, usable_threads
from detectors.protocol import FitContext
from halfsigma import DetectorError, __version__

if TYPE_CHECKING:
    import torch

CHECKPOINT_EVERY_S = 20.0
"""What a kill costs at most; writing a checkpoint takes a small fraction of it."""
LATE = 0.95
"""After this share of the steps the learning rate drops to a tenth (EfficientAD's schedule)."""

Tensors = dict[str, "torch.Tensor"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast to learn.

    Attributes:
        steps: at most.
        learning_rate: of Adam, at the beginning.
        decay: ``cosine`` falls to nothing, ``late`` drops to a tenth after `LATE` of the steps, ``none`` stays.
        betas, weight_decay: of Adam (decoupled decay).
        validate_every: steps between two looks at the held-out goods.
        patience: validations without a gain after which training stops.
        least_gain: relative fall of the held-out loss that counts as a gain.
    """

    steps: int
    learning_rate: float
    decay: Literal["cosine", "late", "none"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    validate_every: int = 100
    patience: int = 5
    least_gain: float = 0.002

    def rate(self, step: int) -> float:
        """The learning rate of a step.

        >>> Plan(100, 0.1).rate(0), round(Plan(100, 0.1).rate(50), 3), round(Plan(100, 0.1, decay="late").rate(95), 3)
        (0.1, 0.05, 0.01)
        """
        share = step / self.steps
        if self.decay == "cosine":
            return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * share))
        return self.learning_rate * (0.1 if self.decay == "late" and share >= LATE else 1.0)


@dataclass(frozen=True, slots=True)
class Training:
    """How a training went.

    Attributes:
        steps: done, the stop included.
        validated: (step, held-out loss), the first before the first step.
    """

    steps: int
    validated: tuple[tuple[int, float], ...]

    @property
    def best(self) -> float:
        """The held-out loss of the weights that were kept."""
        return min(loss for _, loss in self.validated)


def train(
    module: torch.nn.Module,
    plan: Plan,
    *,
    loss: Callable[[np.random.Generator], torch.Tensor],
    validate: Callable[[], float],
    context: FitContext,
    identity: str,
    at_start: float | None = None,
) -> Training:
    """Fit ``module`` in place; it ends with the weights that did best on the held-out goods, in evaluation mode.

    Step k draws from a random stream of its own, made of the seed and k: from ``loss``'s generator, and from torch's,
    which is set alike. So a training that was killed goes on from its last checkpoint to the weights, bit for bit, that
    it would have reached (on one machine, with as many threads). A checkpoint that cannot be written ends nothing: the
    training goes on without any.

    Args:
        module: everything that is learned; frozen parts are better left out of it.
        plan: how long and how fast.
        loss: of one batch that it draws itself, a scalar; the module is in training mode.
        validate: the loss on the held-out goods; the module is in evaluation mode, without gradients.
        context: seed, progress and the folder for checkpoints.
        identity: of the images and settings (`identity_of`): a checkpoint of another training is not taken up.
        at_start: what ``validate`` says before the first step, where it was asked already.

    Raises:
        DetectorError: the loss is no longer finite.
    """
    import torch

    parameters = [each for each in module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, betas=plan.betas, weight_decay=plan.weight_decay)
    with _repeatable():
        state = _State(module, optimizer, parameters)
        file = _checkpoint_file(context.checkpoint, module, plan, context.seed, identity)
        if file is None or not state.load(file):
            state.validated = [(0, held_out_loss(module, validate) if at_start is None else at_start)]
            state.keep_best()
        written = time.monotonic()
        while state.step < plan.steps and not _is_over(state.validated, plan):
            context.progress("training", state.step, plan.steps)
            rng = np.random.default_rng([context.seed, state.step])
            torch.manual_seed(int(rng.integers(2**62)))
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(state.step)
            optimizer.zero_grad(set_to_none=True)
            module.train()
            value = loss(rng)
            if not bool(torch.isfinite(value)):
                raise DetectorError(
                    f"the loss is {value.item()} at step {state.step} of {plan.steps}",
                    hint="look at the images that were fitted on, or fit with another seed",
                )
            value.backward()
            optimizer.step()
            state.step += 1
            if state.step % plan.validate_every == 0 or state.step == plan.steps:
                state.validated.append((state.step, held_out_loss(module, validate)))
                if state.validated[-1][1] == min(found for _, found in state.validated):
                    state.keep_best()
            if file is not None and time.monotonic() - written >= CHECKPOINT_EVERY_S:
                file = _kept(state, file)
                written = time.monotonic()
        if file is not None:
            _kept(state, file)  # run again, a retrain that was killed later finds this training done
        module.load_state_dict(state.best)
        module.eval()
    return Training(state.step, tuple(state.validated))


def identity_of(canvases: Iterable[NDArray[np.uint8]], runtime: FeatureRuntime, *parts: object) -> str:
    """A hash of the images and of what else decides a training: the backbone by what it says of the first image, ``parts``
    by their ``repr``, and the versions of halfsigma and torch, whose losses and examples may be others."""
    import torch

    digest = hashlib.sha256(repr((__version__, torch.__version__, *parts)).encode())
    for index, canvas in enumerate(canvases):
        if index == 0:
            digest.update(np.ascontiguousarray(runtime.features(canvas)).data)
        digest.update(repr(canvas.shape).encode())
        digest.update(np.ascontiguousarray(canvas).data)
    return digest.hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws the same numbers in this block each time; outside it nothing changes."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _repeatable() -> Iterator[None]:
    """As many threads as the process may use, since sums depend on their number, and torch's own stream kept."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(usable_threads())
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


class _State:
    """What a training is made of between two steps."""

    def __init__(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.nn.Parameter]
    ) -> None:
        self._module = module
        self._optimizer = optimizer
        self._parameters = parameters
        self.step = 0
        self.validated: list[tuple[int, float]] = []
        self.best: Tensors = {}

    def keep_best(self) -> None:
        self.best = {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    def save(self, file: Path) -> None:
        """Whole or not at all: a kill leaves the checkpoint before."""
        from safetensors.torch import save_file

        tensors = {f"module.{name}": tensor for name, tensor in self._module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, parameter in enumerate(self._parameters):
            for name, tensor in self._optimizer.state[parameter].items():
                tensors[f"adam.{index}.{name}"] = tensor
        tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        record = json.dumps({"step": self.step, "validated": self.validated, "sha256": _digest(tensors)})
        unfinished = file.with_suffix(".unfinished")
        save_file(tensors, unfinished, {"training": record})
        unfinished.replace(file)

    def load(self, file: Path) -> bool:
        """Whether there was a checkpoint to go on from; a damaged one is as none."""
        import torch
        from safetensors import SafetensorError, safe_open

        if not file.exists():
            return False
        try:
            with safe_open(file, framework="pt") as opened:
                record: dict[str, Any] = json.loads(opened.metadata()["training"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return False
        if _digest(tensors) != record.get("sha256"):
            return False  # the machine lost power: a file's length may outlive what was in it
        self._module.load_state_dict(_part(tensors, "module."))
        self.best = _part(tensors, "best.")
        for index, parameter in enumerate(self._parameters):
            for name, tensor in _part(tensors, f"adam.{index}.").items():
                if tensor.shape == parameter.shape:  # in the parameter's own memory order, as Adam keeps it
                    tensor = torch.empty_like(parameter).copy_(tensor)
                self._optimizer.state[parameter][name] = tensor
        self.step = int(record["step"])
        self.validated = [(int(step), float(loss)) for step, loss in record["validated"]]
        return True


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def held_out_loss(module: torch.nn.Module, validate: Callable[[], float]) -> float:
    """What ``validate`` says of the module in evaluation mode, without gradients."""
    import torch

    module.eval()
    with torch.inference_mode():
        return float(validate())


def _is_over(validated: Sequence[tuple[int, float]], plan: Plan) -> bool:
    """Whether the last ``patience`` validations gained nothing on the best before them.

    >>> plan = Plan(9, 0.1, patience=2, least_gain=0.01)
    >>> _is_over([(0, 9.0), (1, 5.0), (2, 5.0), (3, 4.999)], plan), _is_over([(0, -5.0), (1, -4.99), (2, -5.01)], plan)
    (True, True)
    """
    losses = [loss for _, loss in validated]
    earlier, recent = losses[: -plan.patience], losses[-plan.patience :]
    return bool(earlier) and min(recent) > min(earlier) - plan.least_gain * abs(min(earlier))  # losses may be negative


def _kept(state: _State, file: Path) -> Path | None:
    """Where the next checkpoint goes; None, which is told once, where the disk took none."""
    from safetensors import SafetensorError

    try:
        state.save(file)
    except (OSError, SafetensorError) as error:
        _log.warning("%s cannot be written: %s; the training goes on, a kill would cost all of it", file, error)
        with suppress(OSError):
            file.with_suffix(".unfinished").unlink(missing_ok=True)
        return None
    return file


def _checkpoint_file(folder: Path | None, module: torch.nn.Module, plan: Plan, seed: int, identity: str) -> Path | None:
    """Named by all that decides the training, the weights that it starts from included."""
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(repr((asdict(plan), seed, identity, usable_threads())).encode())
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return folder / f"training-{digest.hexdigest()[:24]}.safetensors"
