"""The closed form that svd-mini starts from: a linear codec written into the classes' own convolutions.

Two facts make it work. A residual block whose last convolution is zero is the identity, so that the trunk of an encoder,
a decoder or a U-net is a chain of plain convolutions. And a group normalisation with three channels (a, K, -K), with K a
constant far above the signal a, divides by a nearly constant number, so that absolute values get through; see `lift`.

The encoder is never trained: it is eight coefficients of the orthonormal 8x8 discrete cosine transform in a
luma/red-blue/green basis. Latents can therefore be had from `encode` without running the module, and a U-net stays valid
when the decoder improves. Pictures are [-1, 1]; a latent is [8, height / 8, width / 8] with a mean square of about one.
"""

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

LATENTS = 8
CHANNELS = 96
# Orthonormal colours: luma, red against blue, green against both.
COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]) / torch.tensor([3.0, 2.0, 6.0]).sqrt()[:, None]
# (colour, vertical frequency, horizontal frequency, standard deviation over the training pictures with their colours
# turned at random). A latent is the coefficient over the square root of that: between whitening, which would give fine
# detail the weight of a scene's brightness, and none, where it would vanish below the noise.
COEFFICIENTS = [
    (0, 0, 0, 6.25), (1, 0, 0, 2.0), (2, 0, 0, 2.0), (0, 0, 1, 1.2), (0, 1, 0, 1.2), (0, 0, 2, 0.65), (0, 2, 0, 0.65), (0, 1, 1, 0.65),
]  # fmt: skip
MEAN_SQUARE = 1.82  # of the latents before this last division


def analysis() -> torch.Tensor:
    """The filters of the encoder, [latent, rgb, 8, 8]."""
    place = torch.arange(8) + 0.5
    cosines = torch.stack([torch.cos(math.pi * k * place / 8) * math.sqrt((1 if k == 0 else 2) / 8) for k in range(8)])
    filters = [
        COLOURS[colour, :, None, None] * cosines[v][None, :, None] * cosines[u] / math.sqrt(deviation * MEAN_SQUARE)
        for colour, v, u, deviation in COEFFICIENTS
    ]
    return torch.stack(filters)


def encode(pictures: torch.Tensor) -> torch.Tensor:
    """[n, rgb, height, width] in [-1, 1] to latents [n, 8, height / 8, width / 8], as the encoder's mean."""
    return F.conv2d(pictures, analysis().to(pictures), stride=8)


def decode(latents: torch.Tensor) -> torch.Tensor:
    """The inverse transform: latents [n, 8, h, w] to pictures [n, rgb, 8 h, 8 w], blocky, as fast as `encode`."""
    squares = torch.tensor([deviation * MEAN_SQUARE for *_, deviation in COEFFICIENTS])
    filters = analysis() * squares[:, None, None, None]
    return F.conv_transpose2d(latents, filters.to(latents), stride=8)


def lift(weight: torch.Tensor, bias: torch.Tensor, constant: float) -> None:
    """Turns the first rows of a convolution, signals a, into two groups each: (a, K, -K) and (-a, K, -K).

    `weight` is [96, in, ...] with the signals' rows at 0, 6, 12, ...; rows between them are overwritten, `bias` too.
    """
    rows = weight.shape[0] // 6 * 6
    for row in range(0, min(rows, 6 * LATENTS), 6):
        weight[row + 1 : row + 6] = 0
        weight[row + 3] = -weight[row]
        bias[row : row + 6] = torch.tensor([0, constant, -constant, 0, constant, -constant], dtype=bias.dtype)


def lowered(constant: float) -> torch.Tensor:
    """What reads a signal back behind the normalisation and SiLU: six weights for its two groups.

    With s the deviation of a group and m = mean(a) / 3 the mean that is subtracted, silu(x) - silu(-x) = x gives
    (a - m) / s from the first channels. silu is x / 2 plus an even function, so that the constants' channels, shifted by
    -m / s in one group and +m / s in the other, sum to -2 m / s exactly. Only s depends on the signal, by a^2 / 4 K^2.
    """
    deviation = constant * math.sqrt(2 / 3)
    return deviation * torch.tensor([1, -0.5, -0.5, -1, 0.5, 0.5])


def quiet(module: nn.Module) -> None:
    """Makes every residual branch start as nothing: zero for the last layer of each."""
    for name, child in module.named_modules():
        last = name.endswith(("res_block.conv2", "proj_out", "attentions.0.to_out.0")) or (
            "resnets" in name and name.endswith("conv2")
        )
        if last and isinstance(child, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.zeros_(child.weight)
            nn.init.zeros_(child.bias)


def build_autoencoder() -> AutoencoderKLTemporalDecoder:
    """The class at svd-mini's sizes, with random weights."""
    return AutoencoderKLTemporalDecoder(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(CHANNELS,) * 4,
        layers_per_block=1,
        latent_channels=LATENTS,
        sample_size=128,
        scaling_factor=1.0,
        force_upcast=True,
    )


@torch.no_grad()
def write_encoder(vae: AutoencoderKLTemporalDecoder, constant: float = 40.0) -> None:
    """Writes `analysis` into the encoder and turns its gradients off.

    The strided convolutions pad on the right and below, so that their taps [0:2, 0:2] gather 2x2 blocks without overlap:
    3 signals become 12, then 48; the third one projects 48 x 4 = 192 numbers on the eight filters.
    """
    encoder = vae.encoder
    quiet(encoder)
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    downs = [block.downsamplers[0].conv for block in encoder.down_blocks[:3]]
    for conv in [encoder.conv_in, *downs, encoder.conv_out, vae.quant_conv]:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    for colour in range(3):
        encoder.conv_in.weight[colour, colour, 1, 1] = 1
    for conv, signals in zip(downs[:2], (3, 12), strict=True):
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for signal in range(signals):
                conv.weight[(2 * y + x) * signals + signal, signal, y, x] = 1
    filters = analysis()
    for signal in range(48):
        # channel = ((2 y1 + x1) 2 + ... : the last gathered bit is the most significant, see the loop above
        colour, first, second = signal % 3, signal // 3 % 4, signal // 12
        for last in range(4):
            y = (last // 2) * 4 + (second // 2) * 2 + first // 2
            x = (last % 2) * 4 + (second % 2) * 2 + first % 2
            downs[2].weight[0 : 6 * LATENTS : 6, signal, last // 2, last % 2] = filters[:, colour, y, x]
    lift(downs[2].weight, downs[2].bias, constant)
    for signal in range(LATENTS):
        encoder.conv_out.weight[signal, 6 * signal : 6 * signal + 6, 1, 1] = lowered(constant)
        vae.quant_conv.weight[signal, signal, 0, 0] = 1
    vae.quant_conv.bias[LATENTS:] = -30  # the logarithm of the variance: sampling is the mean


class LinearDecoder(nn.Module):
    """The decoder's trunk alone: convolutions and nearest upsampling, nothing between. Widths are signals, not channels."""

    WIDTHS = (64, 48, 32, LATENTS)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(LATENTS, self.WIDTHS[0], 3, padding=1)
        self.ups = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in zip(self.WIDTHS, self.WIDTHS[1:], strict=False)])
        self.last = nn.Conv2d(self.WIDTHS[-1], 3, 3, padding=1)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """[n, 8, h, w] to pictures [n, rgb, 8 h, 8 w]."""
        signals = self.first(latents)
        for up in self.ups:
            signals = up(F.interpolate(signals, scale_factor=2.0, mode="nearest"))
        return self.last(signals)


@torch.no_grad()
def write_decoder(vae: AutoencoderKLTemporalDecoder, linear: LinearDecoder, constant: float = 8.0) -> None:
    """Writes a fitted `LinearDecoder` into the decoder. Channels without a signal keep their random weights, for later.

    The last signals are `lift`ed; their biases would disturb the constants and are zero in a fitted model.
    """
    decoder = vae.decoder
    quiet(decoder)
    convs = [decoder.conv_in, *(block.upsamplers[0].conv for block in decoder.up_blocks[:3])]
    signals_in = LATENTS
    for stage, (conv, source) in enumerate(zip(convs, [linear.first, *linear.ups], strict=True)):
        signals = source.weight.shape[0]
        rows = range(0, 6 * signals, 6) if stage == 3 else range(signals)
        for row, source_row in zip(rows, range(signals), strict=True):
            conv.weight[row] = 0
            conv.weight[row, :signals_in] = source.weight[source_row]
            conv.bias[row] = source.bias[source_row]
        signals_in = signals
    lift(convs[-1].weight, convs[-1].bias, constant)
    nn.init.zeros_(decoder.conv_out.weight)
    decoder.conv_out.bias.copy_(linear.last.bias)
    read = lowered(constant)
    for signal in range(LATENTS):
        decoder.conv_out.weight[:, 6 * signal : 6 * signal + 6] = linear.last.weight[:, signal, None] * read[:, None, None]
    nn.init.zeros_(decoder.time_conv_out.weight)
    nn.init.zeros_(decoder.time_conv_out.bias)
    for colour in range(3):
        decoder.time_conv_out.weight[colour, colour, 1] = 1
