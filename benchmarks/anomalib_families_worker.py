"""anomalib's six families in its own environment: takes one JSON command a line, answers in one.

Started by `anomalib_client.AnomalibWorker`; knows nothing of halfsigma. Networks, losses, optimisers and learning rates
are anomalib's. Its Lightning loop is replaced by a bare one that ends when its time is over, and by nothing else:
images are read and resized before the clock starts. Three families do not take this backbone, or a download:

- Fastflow knows ResNets and transformers by name: where it asks timm for ResNet-18 it is given the given backbone.
- ReverseDistillation's decoder is a ResNet that ends in ReLU: the encoder's channels are split by their sign, which
  keeps every distance and makes them what such a decoder can say, and filled with zeros up to ResNet-18's widths.
- EfficientAd's teacher and Draem's textures are downloads: the teacher and a folder of photographs are given.

Draem's export has an output, ``select``, that anomalib's inferencer cannot take; it is dropped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever the libraries print is no answer

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from anomalib.data import ImageBatch, NumpyImageBatch  # noqa: E402
from anomalib.deploy import OpenVINOInferencer  # noqa: E402
from anomalib.models import Draem, EfficientAd, Fastflow, Padim, Patchcore, ReverseDistillation  # noqa: E402
from anomalib.models.components import TimmFeatureExtractor  # noqa: E402
from anomalib.models.image.fastflow import torch_model as fastflow_model  # noqa: E402
from anomalib.pre_processing import PreProcessor  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402
from torchvision.transforms.v2.functional import to_dtype, to_image  # noqa: E402

THREADS = int(os.environ["OMP_NUM_THREADS"])
SIDE_PX = 256
MIDDLE_STAGES, THREE_STAGES = ("blocks.2", "blocks.4"), ("blocks.1", "blocks.2", "blocks.4")
RESNET18_CHANNELS = (64, 128, 256)
BATCH = {"efficientad": 1, "draem": 8, "rd4ad": 16, "fastflow": 32}
"""The papers', or anomalib's example configurations."""
SCORED_AT_ONCE = 8
SHARED = {"visualizer": False, "evaluator": False}


class SignSplit(torch.nn.Module):
    """The encoder's stages with positive and negative parts in channels of their own, as many as ResNet-18 has."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {}
        for (name, stage), width in zip(self.encoder(images).items(), RESNET18_CHANNELS, strict=True):
            split = torch.cat([stage.relu(), (-stage).relu()], dim=1)
            found[name] = torch.nn.functional.pad(split, (0, 0, 0, 0, 0, width - split.shape[1]))
        return found


class Inferencer(OpenVINOInferencer):
    """Without the outputs that an image batch has no field for."""

    @staticmethod
    def post_process(predictions: Any) -> dict[str, Any]:
        known = {each.name for each in fields(NumpyImageBatch)}
        found = OpenVINOInferencer.post_process(predictions)
        return {name: value for name, value in found.items() if name in known}


class Bench:
    """Holds one model between commands."""

    def fit(self, family: str, images: str, weights: str, mean: list[float], std: list[float], **options: Any) -> Any:
        """Build the family's model and fit it on the images ``fit*`` within ``seconds``."""
        torch.manual_seed(options["seed"])
        self.images = np.load(images)
        self.weights = load_file(weights)
        bare = family in ("efficientad", "draem")  # they normalise inside, or not at all
        frame = [Resize((SIDE_PX, SIDE_PX), antialias=True), *([] if bare else [Normalize(mean, std)])]
        self.frame = PreProcessor(Compose(frame))
        fitted = torch.cat([self._given(name) for name in self._names("fit")])
        build: Callable[..., Any] = getattr(self, f"_{family}")
        self.model = build(**options)
        begin, processor = time.perf_counter(), time.process_time()
        steps = self._learn(family, fitted, **options)
        self.model.eval()
        return {
            "seconds": time.perf_counter() - begin,
            "cpu_s": time.process_time() - processor,
            "steps": steps,
            "parameters": sum(each.numel() for each in self.model.model.parameters()),
        }

    def score(self, split: str, scores: str, maps: str) -> dict[str, Any]:
        """Save image scores, (n,), and anomaly maps, (n, side, side) float16, as the torch model gives them."""
        found, drawn = [], []
        with torch.no_grad():
            for batch in torch.cat([self._given(name) for name in self._names(split)]).split(SCORED_AT_ONCE):
                answer = self.model.model(batch)
                found.append(np.asarray(answer.pred_score, np.float64).reshape(-1))
                drawn.append(np.asarray(answer.anomaly_map, np.float32).reshape(-1, SIDE_PX, SIDE_PX))
        stacked = np.concatenate(drawn)
        # float16 holds 3 digits: bring the values near 1 first
        np.save(maps, ((stacked - stacked.mean()) / (stacked.std() + 1e-12)).astype(np.float16))
        np.save(scores, np.concatenate(found))
        return {}

    def export(self, folder: str) -> dict[str, Any]:
        """The family's own OpenVINO export, as a user calls it."""
        path = self.model.to_openvino(folder, input_size=(SIDE_PX, SIDE_PX), onnx_kwargs={"dynamic_shapes": None})
        os.chdir(folder)  # the inferencer puts its cache where it stands
        self.engine = Inferencer(path, device="CPU", config={"INFERENCE_NUM_THREADS": THREADS})
        return {"precision": str(self.engine.model.get_property("INFERENCE_PRECISION_HINT").get_type_name())}

    def time(self, split: str) -> dict[str, Any]:
        """Milliseconds for each image, from the uint8 array to score and map, in the OpenVINO export."""
        taken = []
        for name in self._names(split):
            pixels = self.images[name]
            begin = time.perf_counter()
            self.engine.predict(pixels)
            taken.append((time.perf_counter() - begin) * 1e3)
        return {"ms": taken}

    def _names(self, split: str) -> list[str]:
        return sorted(
            (name for name in self.images.files if name.startswith(split)), key=lambda name: (len(name), name)
        )

    def _given(self, name: str) -> torch.Tensor:
        return self.frame.transform(to_dtype(to_image(self.images[name]), torch.float32, scale=True)[None])

    def _fill(self, network: torch.nn.Module) -> None:
        network.load_state_dict({key: self.weights[key] for key in network.state_dict()})

    def _patchcore(self, backbone: str, n_select: int, **_: Any) -> Any:
        model = Patchcore(
            backbone=backbone, layers=list(MIDDLE_STAGES), pre_trained=False, pre_processor=self.frame, **SHARED
        )
        self._fill(model.model.feature_extractor.feature_extractor)
        patches = len(self._names("fit")) * (SIDE_PX // 8) ** 2
        model.coreset_sampling_ratio = (n_select + 0.5) / patches
        return model

    def _padim(self, backbone: str, **_: Any) -> Any:
        model = Padim(
            backbone=backbone,
            layers=list(THREE_STAGES),
            pre_trained=False,
            n_features=100,
            pre_processor=self.frame,
            **SHARED,
        )
        self._fill(model.model.feature_extractor.feature_extractor)
        return model

    def _fastflow(self, backbone: str, **_: Any) -> Any:
        original = timm.create_model

        def instead(name: str, **given: Any) -> Any:
            network = original(backbone, pretrained=False, features_only=True, out_indices=given["out_indices"])
            self._fill(network)
            return network

        fastflow_model.timm.create_model = instead
        try:
            return Fastflow(backbone="resnet18", pre_trained=False, pre_processor=self.frame, **SHARED)
        finally:
            fastflow_model.timm.create_model = original

    def _rd4ad(self, backbone: str, **_: Any) -> Any:
        model = ReverseDistillation(backbone="resnet18", pre_trained=False, pre_processor=self.frame, **SHARED)
        encoder = TimmFeatureExtractor(backbone=backbone, pre_trained=False, layers=list(THREE_STAGES))
        self._fill(encoder.feature_extractor)
        model.model.encoder = SignSplit(encoder)
        return model

    def _efficientad(self, teacher: str, **_: Any) -> Any:
        model = EfficientAd(pre_processor=self.frame, **SHARED)
        given = load_file(teacher)  # named by place, in the order of the names
        places = sorted({int(name.split(".")[0]) for name in given})
        parts = [(f"conv{n}", place) for n, place in enumerate(places, start=1)]
        model.model.teacher.load_state_dict(
            {f"{conv}.{kind}": given[f"{place}.{kind}"] for conv, place in parts for kind in ("weight", "bias")}
        )
        return model

    def _draem(self, textures: str, **_: Any) -> Any:
        return Draem(dtd_dir=textures, pre_processor=self.frame, **SHARED)

    def _learn(self, family: str, fitted: torch.Tensor, *, seconds: float, seed: int, **_: Any) -> int:
        model, inner = self.model, self.model.model
        model.log = lambda *_args, **_given: None
        if family in ("patchcore", "padim"):
            inner.train()
            with torch.no_grad():
                for batch in fitted.split(8):
                    inner(batch)
                model.fit()
            return 1
        if family == "efficientad":
            strange = [torch.from_numpy(self.images[name]) for name in self._names("strange")]
            prepared = [(each.permute(2, 0, 1)[None].float() / 255.0, None) for each in strange]
            model.imagenet_loader = prepared
            model.imagenet_iterator = iter(prepared)
            batches = [SimpleNamespace(image=each[None]) for each in fitted]
            inner.mean_std.update(model.teacher_channel_mean_std(batches))
            model.configure_optimizers = lambda: torch.optim.Adam(
                [*inner.student.parameters(), *inner.ae.parameters()], lr=model.lr, weight_decay=model.weight_decay
            )
        steps = self._descend(model, fitted, BATCH[family], seconds=seconds, seed=seed)
        if family == "efficientad":
            held_out = [SimpleNamespace(image=self._given(name), gt_label=[0]) for name in self._names("held")]
            inner.eval()
            inner.quantiles.update(model.map_norm_quantiles(held_out))
        return steps

    @staticmethod
    def _descend(model: Any, fitted: torch.Tensor, batch: int, *, seconds: float, seed: int) -> int:
        configured = model.configure_optimizers()
        optimizer = configured[0][0] if isinstance(configured, tuple) else configured
        begin = time.perf_counter()
        model.train()
        for steps, chosen in enumerate(_batches(len(fitted), batch, seed)):
            late = time.perf_counter() - begin >= 0.95 * seconds
            if time.perf_counter() - begin >= seconds:
                return steps
            if late and isinstance(model, EfficientAd):  # its schedule: a tenth for the last twentieth
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 * model.lr
            optimizer.zero_grad()
            model.training_step(ImageBatch(image=fitted[chosen]))["loss"].backward()
            optimizer.step()
        raise AssertionError


def _batches(n: int, size: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(n)
        yield from (order[start : start + size] for start in range(0, n - size + 1, size))


def main() -> None:
    torch.set_num_threads(THREADS)
    bench = Bench()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(bench, command.pop("do"))(**command)
        ANSWERS.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
