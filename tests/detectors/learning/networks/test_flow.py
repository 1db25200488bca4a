"""The flow against its numerical Jacobian and its inverse, the paper's parameter counts, and what it learns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from detectors.learning.networks.flow import (
    CLAMP,
    FastFlow,
    Flow,
    FlowStep,
    negative_log_likelihood,
    unlikelihood_maps,
)


@pytest.fixture(autouse=True)
def _first_weights() -> None:
    """Convolutions draw theirs from torch's own stream, which the tests before have moved on."""
    torch.manual_seed(0)


def _generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)


def _shaken(module: nn.Module) -> nn.Module:
    """Away from its nearly neutral start, in float64."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.double()


@pytest.mark.parametrize("channels", [5, 4])
def test_the_log_determinant_is_that_of_the_numerical_jacobian(channels: int) -> None:
    """All 3 × 2 positions and channels at once, an odd number of channels among them."""
    flow = _shaken(Flow(channels, generator=_generator(), steps=3))
    state = torch.randn(1, channels, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x)[0].reshape(-1), state)
    _, expected = torch.linalg.slogdet(jacobian.reshape(state.numel(), state.numel()))
    with torch.no_grad():
        z, found = flow(state)
    assert z.shape == state.shape
    assert abs(float(expected)) > 0.1
    assert float(found[0]) == pytest.approx(float(expected), abs=1e-9)


def test_the_inverse_gives_the_features_back() -> None:
    flow = _shaken(Flow(7, generator=_generator()))
    state = torch.randn(2, 7, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        z, _ = flow(state)
    assert float((z - state).abs().max()) > 0.5
    torch.testing.assert_close(flow.invert(z), state, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("channels", "published_millions", "tolerance"),
    [
        # table 3 of the paper, "A.d. params": 41.3 M for WideResNet-50 and, with 3 × 3 and 1 × 1 in turn, 2.7 M for
        # ResNet-18, which nobody's program matches to more than 2.6 M (github.com/gathierry/FastFlow, issue 2)
        ((256, 512, 1024), 41.3, 0.05),
        ((64, 128, 256), 2.65, 0.06),
    ],
)
def test_the_parameters_are_as_many_as_the_paper_counts(
    channels: tuple[int, ...], published_millions: float, tolerance: float
) -> None:
    with torch.device("meta"):
        network = FastFlow(channels, generator=_generator())
    found = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert found == pytest.approx(published_millions, abs=tolerance)


def test_eight_steps_alternate_between_kernels_of_3_and_1_and_keep_the_hidden_width() -> None:
    flow = Flow(6, generator=_generator())
    kernels = [step.subnet[0].kernel_size[0] for step in flow.steps]
    assert kernels == [3, 1, 3, 1, 3, 1, 3, 1]
    for step in flow.steps:
        first, _, second = step.subnet
        assert (first.in_channels, first.out_channels, second.out_channels) == (3, 3, 6)
    # every channel is changed by some step: two in a row with another permutation
    assert all(not torch.equal(a.order, b.order) for a, b in pairwise(flow.steps))


def test_no_step_stretches_by_more_than_the_clamp() -> None:
    step = FlowStep(4, kernel=1, order=torch.arange(4))
    with torch.no_grad():
        for parameter in step.subnet.parameters():
            parameter.fill_(1e6)
        _, log_determinant = step(torch.ones(1, 4, 3, 3))
    assert float(log_determinant) == pytest.approx(CLAMP * 2 * 9)


def test_the_loss_of_an_untouched_flow_is_half_the_features_mean_square() -> None:
    """½ per feature where the mean square is one, whatever the image's size."""
    network = FastFlow((4, 6), generator=_generator())
    with torch.no_grad():
        for flow in network.flows:
            for step in flow.steps:
                for parameter in step.subnet.parameters():
                    parameter.zero_()
    rng = np.random.default_rng(0)
    for rows in (8, 20):
        pyramid = [torch.from_numpy(rng.normal(size=(2, c, rows // k, 8 // k))).float() for c, k in ((4, 1), (6, 2))]
        pyramid = [level / level.square().mean().sqrt() for level in pyramid]
        with torch.no_grad():
            flowed = network(pyramid)
        assert float(negative_log_likelihood(flowed)) == pytest.approx(0.5, abs=1e-4)
        maps = unlikelihood_maps(flowed)
        assert [tuple(each.shape) for each in maps] == [(2, rows, 8), (2, rows // 2, 4)]
        assert float(torch.stack([each.mean() for each in maps]).mean()) == pytest.approx(0.5, abs=1e-4)


def test_what_it_was_fitted_on_becomes_likelier_than_what_it_was_not() -> None:
    """Channels that always move together (x, x + noise) become a normal; a patch in which they part is unlikely."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def maps(n: int) -> torch.Tensor:
        x = rng.normal(size=(n, 1, 8, 8))
        return torch.from_numpy(np.concatenate([x, -x, x, -x], axis=1) + rng.normal(0, 0.1, (n, 4, 8, 8))).float()

    network = FastFlow((4,), generator=_generator())
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = negative_log_likelihood(network([maps(4)]))
        loss.backward()
        optimiser.step()
    odd = maps(1)
    odd[0, 1, 2, 3] *= -1
    with torch.no_grad():
        (found,) = unlikelihood_maps(network([odd]))
    assert loss.item() < -0.3
    assert int(found[0].argmax()) in {r * 8 + c for r in (1, 2, 3) for c in (2, 3, 4)}
