"""Reverse distillation: a decoder that rebuilds a frozen encoder's pyramid from a narrow embedding of it.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022 (arXiv 2201.10703). The
numbers of equations and the names MFF (multi-scale feature fusion) and OCE (one-class embedding) are the paper's.

Shapes follow from the encoder: a pyramid of maps, finest first, each half as large as the one before. With the channels
of a ResNet they are the paper's, layer by layer; with those of another backbone they are as narrow as that backbone is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.learning.networks.maps import Standardise

# What a block does to rows and columns.
_Resize = Literal["halve", "keep", "double"]
BOTTLENECK_EXPANSION = 4
"""A bottleneck block is this much narrower inside (He et al. 2016)."""
LEAST_NORM = 1e-8
"""A position without any features has no direction; its cosine is 0."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How deep and of which blocks bottleneck and decoder are made.

    Attributes:
        bottleneck_blocks: whether blocks are ResNet's bottlenecks (1 × 1, 3 × 3, 1 × 1) or its basic ones (two 3 × 3).
        width_factor: of the inner channels of a bottleneck block; 2 is a *wide* ResNet.
        embedding_blocks: in the embedding.
        decoder_blocks: in the decoder's stages, coarsest first.
        signed: whether a stage ends without ReLU. ResNet's stages end with one, those of EfficientNet (linear
            bottlenecks) do not, nor do standardised maps: a decoder that cannot say negative numbers cannot follow.
    """

    bottleneck_blocks: bool = False
    width_factor: int = 1
    embedding_blocks: int = 2
    decoder_blocks: tuple[int, ...] = (2, 2, 2)
    signed: bool = False


COMPACT = Recipe(embedding_blocks=1, decoder_blocks=(1,))
"""For CPUs: of one map, with one basic block where the paper's smallest has two."""
RESNET18 = Recipe()
"""The paper's for ResNet-18."""
WIDE_RESNET50 = Recipe(bottleneck_blocks=True, width_factor=2, embedding_blocks=3, decoder_blocks=(3, 4, 6))
"""The paper's for WideResNet-50, its main encoder."""


class ReverseDistillation(nn.Module):  # type: ignore[misc]  # torch is not followed
    """MFF, OCE and the student decoder: from an encoder's pyramid to the decoder's, shape by shape the same.

    Args:
        channels: of the pyramid's maps, finest first.
        recipe: depth and blocks; a stage of the decoder for each map.
    """

    def __init__(self, channels: Sequence[int], recipe: Recipe) -> None:
        super().__init__()
        if len(recipe.decoder_blocks) != len(channels):
            raise ValueError(f"{len(recipe.decoder_blocks)} stages of the decoder for {len(channels)} maps")
        coarsest = channels[-1]
        embedded = 2 * coarsest
        self.fusion = nn.ModuleList(_descent(channels[i:]) for i in range(len(channels)))
        self.embedding = _stage(len(channels) * coarsest, embedded, "halve", recipe.embedding_blocks, recipe)
        widths = [embedded, *reversed(channels)]
        self.decoder = nn.ModuleList(
            _stage(wide, narrow, "double", n_blocks, recipe)
            for (wide, narrow), n_blocks in zip(pairwise(widths), recipe.decoder_blocks, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, pyramid: Sequence[Tensor]) -> Tensor:
        """φ: (n, 2 × coarsest channels, rows, columns), half the coarsest map's rows and columns."""
        fused = [descend(level) for descend, level in zip(self.fusion, pyramid, strict=True)]
        return self.embedding(torch.cat(fused, dim=1))

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the encoder, (n, channels, rows, columns), finest first → the decoder's, alike in shape."""
        state = self.embed(pyramid)
        decoded = []
        for level, stage in zip(reversed(pyramid), self.decoder, strict=True):
            # a map of odd height is halved to the larger half: what is doubled again has a row too many
            state = stage(state)[..., : level.shape[-2], : level.shape[-1]]
            decoded.append(state)
        return decoded[::-1]


class DistilledMap(nn.Module):  # type: ignore[misc]
    """What is trained, and afterwards scores: the network on the standardised map, and the anomaly map.

    Args:
        channels: of the backbone's map.
        recipe: of the network.
    """

    def __init__(self, channels: int, recipe: Recipe) -> None:
        super().__init__()
        self.standardise = Standardise(channels)
        self.network = ReverseDistillation(
            (channels,), replace(recipe, signed=True)
        )  # standardised, a map has both signs

    def forward(self, maps: Tensor) -> Tensor:
        """(n, rows, columns, channels) → (n, rows, columns)."""
        encoded = [self.standardise(maps)]
        return distances(encoded, self.network(encoded))[0]


def distances(encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> list[Tensor]:
    """Equation 1: M^k(h, w) = 1 - cos(f_E^k(h, w), f_D^k(h, w)), each (n, rows, columns)."""
    # written out: OpenVINO knows no cosine_similarity
    return [1 - (_unit(e) * _unit(d)).sum(dim=1) for e, d in zip(encoded, decoded, strict=True)]


def distillation_loss(encoded: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
    """Equation 2: L_KD = Σ_k mean over positions of M^k, averaged over the batch.

    The authors' published program takes one cosine over all positions and channels of a map instead, where strong
    positions count more.
    """
    return torch.stack([each.mean() for each in distances(encoded, decoded)]).sum()


def anomaly_map(encoded: Sequence[Tensor], decoded: Sequence[Tensor], *, size: tuple[int, int]) -> Tensor:
    """Equation 3: S_AL = Σ_k Ψ(M^k), Ψ the bilinear enlargement to ``size``; (n, rows, columns), before smoothing."""
    maps = [each[:, None] for each in distances(encoded, decoded)]
    enlarged = [functional.interpolate(each, size=size, mode="bilinear", align_corners=False) for each in maps]
    return torch.stack(enlarged).sum(dim=0)[:, 0]


class _Block(nn.Module):  # type: ignore[misc]
    """A residual block of ResNet that halves, keeps or doubles rows and columns.

    Doubling puts a transposed 2 × 2 convolution where halving has a convolution of stride 2: the paper's mirror image
    of the encoder's block.
    """

    def __init__(self, entering: int, leaving: int, resize: _Resize, recipe: Recipe, *, last: bool) -> None:
        super().__init__()
        if recipe.bottleneck_blocks:
            inner = leaving // BOTTLENECK_EXPANSION * recipe.width_factor
            layers = [
                *_normalised(_convolution(entering, inner, 1, "keep")),
                nn.ReLU(),
                *_normalised(_convolution(inner, inner, 3, resize)),
                nn.ReLU(),
                *_normalised(_convolution(inner, leaving, 1, "keep")),
            ]
        else:
            layers = [
                *_normalised(_convolution(entering, leaving, 3, resize)),
                nn.ReLU(),
                *_normalised(_convolution(leaving, leaving, 3, "keep")),
            ]
        self.residual = nn.Sequential(*layers)
        same = resize == "keep" and entering == leaving
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_normalised(_convolution(entering, leaving, 1, resize)))
        )
        self.end = nn.Identity() if last and recipe.signed else nn.ReLU()

    def forward(self, state: Tensor) -> Tensor:
        return self.end(self.residual(state) + self.shortcut(state))


def _unit(level: Tensor) -> Tensor:
    return level / level.square().sum(dim=1, keepdim=True).sqrt().clamp(min=LEAST_NORM)


def _stage(entering: int, leaving: int, resize: _Resize, n_blocks: int, recipe: Recipe) -> nn.Sequential:
    blocks = [_Block(entering, leaving, resize, recipe, last=n_blocks == 1)]
    blocks += [_Block(leaving, leaving, "keep", recipe, last=i == n_blocks - 1) for i in range(1, n_blocks)]
    return nn.Sequential(*blocks)


def _descent(channels: Sequence[int]) -> nn.Sequential:
    """MFF for one map: 3 × 3 convolutions of stride 2 down to the coarsest map, widening as the encoder does."""
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(channels):
        layers += [*_normalised(_convolution(narrow, wide, 3, "halve")), nn.ReLU()]
    return nn.Sequential(*layers)


def _convolution(entering: int, leaving: int, kernel: int, resize: _Resize) -> nn.Module:
    if resize == "double":
        return nn.ConvTranspose2d(entering, leaving, 2, stride=2, bias=False)
    stride = 2 if resize == "halve" else 1
    return nn.Conv2d(entering, leaving, kernel, stride=stride, padding=kernel // 2, bias=False)


def _normalised(convolution: nn.Module) -> tuple[nn.Module, nn.Module]:
    return convolution, nn.BatchNorm2d(convolution.out_channels)
