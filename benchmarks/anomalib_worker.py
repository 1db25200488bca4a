"""anomalib's side of the comparison, in its own environment: takes one JSON command a line, answers in one.

Started by `anomalib_client.AnomalibWorker`; knows nothing of halfsigma. Arrays arrive and leave as .npy files
and weights as safetensors, so neither process reads a pickle. Between commands it sleeps on its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever the libraries print is no answer

import numpy as np  # noqa: E402
import torch  # noqa: E402
from anomalib.deploy import OpenVINOInferencer  # noqa: E402
from anomalib.models import Patchcore  # noqa: E402
from anomalib.models.components import KCenterGreedy  # noqa: E402
from anomalib.pre_processing import PreProcessor  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402
from torchvision.transforms.v2.functional import to_dtype, to_image  # noqa: E402

THREADS = int(os.environ["OMP_NUM_THREADS"])
PACKAGES = ("anomalib", "torch", "torchvision", "timm", "openvino", "onnx", "numpy")


class PatchScores(torch.nn.Module):
    """Stands in for anomalib's map generator: no upsampling, no blur."""

    def forward(self, patch_scores: torch.Tensor, size: object = None) -> torch.Tensor:
        return patch_scores


class Bench:
    """Holds the model between commands."""

    def hello(self) -> dict[str, Any]:
        return {
            "versions": {name: version(name) for name in PACKAGES},
            "torch_threads": torch.get_num_threads(),
        }

    def setup(
        self,
        backbone: str,
        layers: list[str],
        weights: str,
        mean: list[float],
        std: list[float],
        bank: str,
        images: str,
        folder: str,
        side: int,
    ) -> dict[str, Any]:
        """Build PatchCore around the given weights and bank, and export it to OpenVINO as anomalib does."""
        # anomalib's own, but for the mean and deviation that these weights were trained with.
        frame = PreProcessor(Compose([Resize((side, side), antialias=True), Normalize(mean, std)]))
        model = Patchcore(
            backbone=backbone,
            layers=layers,
            pre_trained=False,
            pre_processor=frame,
            visualizer=False,
            evaluator=False,
        )
        network, given = model.model.feature_extractor.feature_extractor, load_file(weights)
        network.load_state_dict({key: given[key] for key in network.state_dict()})
        model.model.memory_bank = torch.from_numpy(np.load(bank))
        self.model = model.eval()
        self.images = np.load(images)
        # The default, a dynamic batch, ends as a fixed batch of two here (timm's "same" padding); one image
        # is asked.
        path = model.to_openvino(folder, input_size=(side, side), onnx_kwargs={"dynamic_shapes": None})
        os.chdir(folder)  # the inferencer puts its cache where it stands
        threads = {"INFERENCE_NUM_THREADS": THREADS}
        self.engines = {
            "openvino": OpenVINOInferencer(path, device="CPU", config=threads),
            "openvino_f32": OpenVINOInferencer(
                path, device="CPU", config={**threads, "INFERENCE_PRECISION_HINT": "f32"}
            ),
        }
        return {
            "precision": {
                name: str(engine.model.get_property("INFERENCE_PRECISION_HINT").get_type_name())
                for name, engine in self.engines.items()
            }
        }

    def embed(self, image: int, path: str) -> dict[str, Any]:
        """Save one image's patch features, (patches, channels), to show that both run the same network."""
        with torch.inference_mode():
            pixels = self.model.pre_processor(self._pixels(image))
            inner = self.model.model
            features = inner.feature_extractor(pixels)
            features = {layer: inner.feature_pooler(feature) for layer, feature in features.items()}
            np.save(path, inner.reshape_embedding(inner.generate_embedding(features)).numpy())
        return {}

    def score(self, engine: str, images: list[int]) -> dict[str, Any]:
        """Score images one by one, from the decoded uint8 array to the score and the map."""
        milliseconds, scores = [], []
        processor = time.process_time()
        for image in images:
            begin = time.perf_counter()
            if engine in self.engines:
                score = self.engines[engine].predict(self.images[image]).pred_score
            else:
                score = self._score_in_torch(image, bare=engine == "torch_bare")
            milliseconds.append((time.perf_counter() - begin) * 1e3)
            scores.append(float(np.asarray(score).reshape(-1)[0]))
        cpu_ms = (time.process_time() - processor) * 1e3 / len(images)
        return {"ms": milliseconds, "cpu_ms": cpu_ms, "scores": scores}

    def coreset(self, features: str, n_select: int, project: bool, picks: str, projected: str) -> dict[str, Any]:
        """Select as anomalib does; without the projection its loop gets the features as they are."""
        embedding = torch.from_numpy(np.load(features))
        # A third axis is anomalib's own way of leaving out the projection.
        given = embedding if project else embedding[:, None, :]
        sampler = KCenterGreedy(given, sampling_ratio=(n_select + 0.5) / len(embedding))
        begin, processor = time.perf_counter(), time.process_time()
        chosen = sampler.select_coreset_idxs()
        seconds, cpu_s = time.perf_counter() - begin, time.process_time() - processor
        np.save(picks, np.asarray(chosen, dtype=np.int64))
        if project:
            np.save(projected, sampler.features.numpy())
        return {"seconds": seconds, "cpu_s": cpu_s, "dimensions": int(sampler.features.shape[1])}

    def _pixels(self, image: int) -> torch.Tensor:
        # As in anomalib's TorchInferencer, whose checkpoint would be a pickle.
        return to_dtype(to_image(self.images[image]), torch.float32, scale=True)[None]

    def _score_in_torch(self, image: int, *, bare: bool) -> torch.Tensor:
        with torch.inference_mode():
            if not bare:
                return self.model(self._pixels(image)).pred_score
            whole = self.model.model.anomaly_map_generator
            self.model.model.anomaly_map_generator = PatchScores()
            try:
                return self.model.model(self.model.pre_processor(self._pixels(image))).pred_score
            finally:
                self.model.model.anomaly_map_generator = whole


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    bench = Bench()
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(bench, command.pop("do"))(**command)
        ANSWERS.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
