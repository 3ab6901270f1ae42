"""The Fusion VAE: chunks and back, the loss by hand, the convolutions against plain loops, identity at the start."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cao.errors import InputError
from tools.align_lora.fusion_vae import (
    KL_WEIGHT,
    LOG_VARIANCE_LIMIT,
    FusionShape,
    FusionVAE,
    cut_chunks,
    join_chunks,
    kl_divergence,
    kl_weight,
    masked_mse,
    take_chunks,
)
from tools.align_lora.presets import EMBEDDED, PAPER

SMALL = FusionShape(widths=(2, 3), latent=4, vector=5, projected=6, chunks=3, code=2)


def build(shape: FusionShape = SMALL, seed: int = 0) -> FusionVAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FusionVAE(shape)


def woken(seed: int = 0) -> FusionVAE:
    """A VAE whose last layer is no longer zero."""
    vae, generator = build(seed=seed), torch.Generator().manual_seed(seed)
    last = vae.decoder[-1]
    last.weight.data = torch.randn(last.weight.shape, generator=generator)
    last.bias.data = torch.randn(last.bias.shape, generator=generator)
    return vae


def inputs(count: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chunks = torch.randn(count, SMALL.chunk, generator=generator)
    return chunks, torch.arange(count), torch.randn(SMALL.vector, generator=generator)


@given(st.integers(1, 7), st.integers(1, 40), st.integers(1, 64))
def test_cut_and_join_are_exact(layers: int, length: int, chunk: int) -> None:
    flat = torch.randn(layers, length)
    chunks, mask = cut_chunks(flat, chunk)
    assert chunks.shape == mask.shape == (math.ceil(layers * length / chunk), chunk)
    assert int(mask.sum()) == layers * length
    assert torch.equal(chunks[mask], flat.reshape(-1))
    assert not chunks[~mask].any()
    assert torch.equal(join_chunks(chunks, (layers, length)), flat)


@given(st.data(), st.integers(1, 200), st.integers(1, 64))
def test_taking_some_chunks_is_cutting_all(data: st.DataObject, total: int, chunk: int) -> None:
    chunks, _ = cut_chunks(torch.arange(1.0, total + 1), chunk)
    which = torch.tensor(data.draw(st.lists(st.integers(0, len(chunks) - 1), min_size=1, max_size=5)))
    assert torch.equal(take_chunks(torch.arange(1.0, total + 1), which, chunk), chunks[which])


def test_padding_is_never_in_the_loss() -> None:
    output, mask = cut_chunks(torch.randn(1000), SMALL.chunk)
    target = torch.randn_like(output)
    loss = masked_mse(output, target, mask)
    assert loss.item() == pytest.approx((output - target)[mask].square().sum().item() / 1000)
    for noise in (torch.ones_like(output), torch.full_like(output, math.nan)):
        other_output, other_target = torch.where(mask, output, noise), torch.where(mask, target, -7 * noise)
        assert torch.equal(masked_mse(other_output, other_target, mask), loss)
    output.requires_grad_()
    masked_mse(output, target, mask).backward()
    assert not output.grad[~mask].any()
    assert output.grad[mask].all()


def test_mse_by_hand() -> None:
    output, target = torch.tensor([[1.0, 2.0], [5.0, 9.0]]), torch.tensor([[0.0, 4.0], [2.0, 0.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_mse(output, target, mask).item() == pytest.approx((1 + 4 + 9) / 3)


def test_kl_by_hand() -> None:
    """KL = ½ Σ (μ² + σ² − 1 − log σ²), mean over chunks. Source: CAO-LLM §2.3, Eq. 3."""
    mean = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    log_variance = torch.tensor([[0.0, math.log(4)], [0.0, 0.0]])
    first = (1 + 1 - 1 - 0) / 2 + (0 + 4 - 1 - math.log(4)) / 2  # the second chunk is the prior itself: 0
    assert kl_divergence(mean, log_variance).item() == pytest.approx(first / 2)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_kl_is_torchs(mean: float, log_variance: float) -> None:
    ours = kl_divergence(torch.tensor([[mean]]), torch.tensor([[log_variance]])).item()
    q = torch.distributions.Normal(mean, math.exp(log_variance / 2))
    theirs = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).item()
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_kl_weight_is_linear_from_zero_to_its_end() -> None:
    assert [kl_weight(step, 6) for step in range(6)] == pytest.approx([0, 0.001, 0.002, 0.003, 0.004, 0.005])
    assert (kl_weight(0, 4000), kl_weight(3999, 4000)) == (0, KL_WEIGHT)
    assert kl_weight(1, 3, 1.0) == 0.5
    assert kl_weight(0, 1) == 0


def plain_conv(rows: list[list[float]], conv: nn.Conv1d) -> list[list[float]]:
    """Kernel 4, stride 4, one output at a time."""
    weight, bias = conv.weight.tolist(), conv.bias.tolist()
    return [
        [
            bias[o] + sum(weight[o][i][k] * rows[i][4 * t + k] for i in range(len(rows)) for k in range(4))
            for t in range(len(rows[0]) // 4)
        ]
        for o in range(len(weight))
    ]


def plain_transposed(rows: list[list[float]], conv: nn.ConvTranspose1d) -> list[list[float]]:
    """Every position of the input writes four of the output."""
    weight, bias = conv.weight.tolist(), conv.bias.tolist()
    return [
        [
            bias[o] + sum(weight[i][o][t % 4] * rows[i][t // 4] for i in range(len(rows)))
            for t in range(4 * len(rows[0]))
        ]
        for o in range(len(bias))
    ]


def gelu(rows: list[list[float]]) -> list[list[float]]:
    return [[x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in row] for row in rows]


def test_the_whole_network_against_plain_loops() -> None:
    vae, (chunks, which, vector) = woken(), inputs(1)
    correction, mean, log_variance = vae(chunks, which, vector)
    rows = [chunks[0].tolist()]
    for layer in (vae.encoder[0], vae.encoder[2]):
        rows = gelu(plain_conv(rows, layer))
    assert [len(row) for row in rows] == [32, 32, 32]  # what is left to pool are 32 positions
    features = torch.tensor([value for row in rows for value in row])
    condition = torch.cat([vae.project.weight @ vector + vae.project.bias, vae.codes[0]])
    told = torch.cat([features, condition])
    assert torch.allclose(mean[0], vae.mean.weight @ told + vae.mean.bias, atol=1e-5)
    assert torch.allclose(log_variance[0], vae.log_variance.weight @ told + vae.log_variance.bias, atol=1e-5)
    wide = vae.widen.weight @ torch.cat([mean[0], condition]) + vae.widen.bias
    rows = wide.reshape(3, 32).tolist()
    for layer in (vae.decoder[1], vae.decoder[3]):
        rows = plain_transposed(gelu(rows), layer)
    assert correction[0].tolist() == pytest.approx(rows[0], abs=1e-4)


def test_an_untrained_vae_corrects_nothing() -> None:
    chunks, which, vector = inputs()
    correction, _, _ = build()(chunks, which, vector)
    assert correction.shape == chunks.shape
    assert not correction.any()
    assert woken()(chunks, which, vector)[0].all()


def test_noise_is_what_z_is_drawn_with() -> None:
    vae, (chunks, which, vector) = woken(), inputs()
    correction, mean, log_variance = vae(chunks, which, vector)
    again, _, _ = vae(chunks, which, vector)
    assert torch.equal(correction, again)  # without noise there is nothing random
    noise = torch.randn(3, SMALL.latent)
    drawn = vae(chunks, which, vector, noise)[0]
    assert torch.allclose(drawn, vae.decode(mean + noise * log_variance.exp().sqrt(), which, vector), atol=1e-6)
    assert not torch.allclose(drawn, correction)


def test_weights_vector_and_place_all_matter() -> None:
    vae, (chunks, which, vector) = woken(), inputs()
    before = vae(chunks, which, vector)[0]
    for changed in ((chunks + 1, which, vector), (chunks, which, vector + 1), (chunks, which.flip(0), vector)):
        assert not torch.allclose(vae(*changed)[0], before, atol=1e-4)


def test_chunks_do_not_see_each_other() -> None:
    vae, (chunks, which, vector) = woken(), inputs()
    together = vae(chunks, which, vector)[0]
    for i in range(3):
        assert torch.allclose(vae(chunks[i : i + 1], which[i : i + 1], vector)[0], together[i : i + 1], atol=1e-6)


def test_the_variance_cannot_overflow() -> None:
    chunks, which, vector = inputs()
    vae = woken()
    _, log_variance = vae.encode(chunks * 1e6, which, vector)
    assert log_variance.abs().max() == LOG_VARIANCE_LIMIT


def test_the_presets_sizes() -> None:
    """Widths 32 to 512, kernel 4, stride 4, 32 positions, v projected to 512. Source: CAO-LLM F.2."""
    with torch.device("meta"):
        paper = FusionVAE(PAPER.shape(896, 4_399_104))
        embedded = FusionVAE(EMBEDDED.shape(576, 1_221_120))
    assert paper.shape.chunk == embedded.shape.chunk == 32_768
    assert (paper.shape.chunks, embedded.shape.chunks) == (135, 38)
    convolutions = [layer for layer in paper.encoder if isinstance(layer, nn.Conv1d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        *((1, 32), (32, 64), (64, 128), (128, 256), (256, 512))
    ]
    mirrored = [layer for layer in paper.decoder if isinstance(layer, nn.ConvTranspose1d)]
    assert [(c.out_channels, c.in_channels) for c in reversed(mirrored)] == [
        (c.in_channels, c.out_channels) for c in convolutions
    ]
    assert all(c.kernel_size == c.stride == (4,) for c in (*convolutions, *mirrored))
    assert paper.project.out_features == 512
    assert (PAPER.meta_epochs, PAPER.inner_rate, PAPER.meta_rate, PAPER.kl) == (4000, 1e-3, 1e-4, 0.005)
    assert sum(parameter.numel() for parameter in embedded.parameters()) == 427_193


@pytest.mark.parametrize("widths", [(), (0,), (1,) * 9, (2**21,), (True,)])
def test_impossible_sizes_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="not the sizes"):
        FusionShape(widths, 4, 5, 6, 3, 2)
