"""Clips as training examples.

`vidc bench scenarios` is the only source: a folder with `scenarios.json` and one uint8 array [frames, height, width, rgb]
a clip. This module reads them, turns their colours at random and measures how much they move.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

FPS_ID = 6  # diffusers passes fps - 1
NOISE_AUG = 0.02


def motion_bucket(difference: float) -> int:
    """The id for a mean absolute difference between neighbouring frames (of [0, 1]). The square root spreads slow clips."""
    return round(255 * min(1.0, math.sqrt(difference / 0.12)))


def difference_of(bucket: float) -> float:
    """The inverse of `motion_bucket`."""
    return 0.12 * (bucket / 255) ** 2


def mean_difference(clips: torch.Tensor) -> torch.Tensor:
    """[..., frames, rgb, height, width] in [-1, 1] to the mean absolute difference of neighbours, of [0, 1]."""
    return (clips[..., 1:, :, :, :] - clips[..., :-1, :, :, :]).abs().mean((-4, -3, -2, -1)) / 2


def time_ids(differences: torch.Tensor) -> torch.Tensor:
    """[n] mean differences to the added time ids [n, 3]: fps - 1, bucket, noise on the picture."""
    return torch.tensor([[FPS_ID, motion_bucket(float(d)), NOISE_AUG] for d in differences], dtype=torch.float32)


class Clips:
    """All clips of a folder whose scenario is wanted, in memory: [n, frames, height, width, rgb] uint8."""

    def __init__(self, folder: Path, scenarios: set[str] | None = None) -> None:
        entries = json.loads((folder / "scenarios.json").read_text())["clips"]
        self.entries = [entry for entry in entries if scenarios is None or entry["scenario"] in scenarios]
        if not self.entries:
            raise SystemExit(f"{folder} has no clip of the scenarios {sorted(scenarios or [])}")
        self.frames = torch.from_numpy(np.stack([np.load(folder / entry["file"]) for entry in self.entries]))

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, indices: list[int] | torch.Tensor, frames: slice = slice(None)) -> torch.Tensor:
        """Clips as float32 [n, frames, rgb, height, width] in [-1, 1]."""
        return self.frames[indices][:, frames].permute(0, 1, 4, 2, 3).float() / 127.5 - 1

    def random(self, rng: torch.Generator, size: int, frames: int) -> torch.Tensor:
        """`size` clips of `frames` neighbouring frames with turned colours; mirrored upside down at times.

        Not mirrored left to right: which way the camera goes cannot be seen in a first frame, so that the clips have a
        convention (it goes right), and a mirror would break it.
        """
        picks = torch.randint(len(self), (size,), generator=rng)
        start = int(torch.randint(self.frames.shape[1] - frames + 1, (1,), generator=rng))
        clips = self.get(picks, slice(start, start + frames))
        clips = torch.stack([turn_colours(clip, rng) for clip in clips])
        return clips.flip(-2) if torch.rand((), generator=rng) < 0.5 else clips


def turn_colours(clip: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Another hue, saturation, contrast and brightness for a whole clip [..., rgb, height, width]."""
    hue, saturation, contrast, brightness = torch.rand(4, generator=rng).tolist()
    angle = 2 * math.pi * hue if saturation > 0.4 else 0.0
    cosine, sine = math.cos(angle), math.sin(angle)
    axis = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turned = axis + (0.4 + 0.9 * saturation) * (cosine * (torch.eye(3) - axis) + sine * cross)
    matrix = (0.6 + 0.5 * contrast) * turned
    colours = torch.einsum("ij,...jyx->...iyx", matrix, clip) + 0.5 * (brightness - 0.5)
    return colours.clamp(-1, 1)
