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


# How often a training example is of a kind. The rest of what the generator makes is left out, and moves that slow down or
# speed up too: neither they nor a direction can be told from a first frame and a motion bucket.
SHARES = {"pan": 0.5, "zoom": 0.35, "still": 0.1, "shake": 0.05}


def wanted(entry: dict) -> bool:
    """Whether a clip of the manifest is of a kind in `SHARES` and moves evenly."""
    moves = entry["scenario"] in ("pan", "zoom")
    return entry["scenario"] in SHARES and (not moves or entry["camera"]["easing"] == "linear")


def oriented(frames: np.ndarray, camera: dict) -> np.ndarray:
    """[frames, height, width, rgb] by the convention: the camera goes right and in. Others are mirrored or reversed."""
    if camera["right"] < 0:
        frames = frames[:, :, ::-1]
    return frames[::-1] if camera["zoom"] < 1 else frames


class Clips:
    """The wanted clips of a folder in memory: [n, frames, height, width, rgb] uint8, with their manifest entries."""

    def __init__(self, folder: Path) -> None:
        entries = json.loads((folder / "scenarios.json").read_text())["clips"]
        self.entries = [entry for entry in entries if wanted(entry)]
        self.frames = torch.from_numpy(
            np.stack([oriented(np.load(folder / entry["file"]), entry["camera"]) for entry in self.entries])
        )
        scenarios = [entry["scenario"] for entry in self.entries]
        # The generator's own mix is another one; weights bring it to SHARES.
        self.weights = torch.tensor([SHARES[name] / scenarios.count(name) for name in scenarios])

    def of(self, scenario: str) -> list[int]:
        """The indices of a scenario's clips."""
        return [index for index, entry in enumerate(self.entries) if entry["scenario"] == scenario]

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, indices: list[int] | torch.Tensor, frames: slice = slice(None)) -> torch.Tensor:
        """Clips as float32 [n, frames, rgb, height, width] in [-1, 1]."""
        return self.frames[:, frames][indices].permute(0, 1, 4, 2, 3).float() / 127.5 - 1

    def random(self, rng: torch.Generator, size: int, frames: int, crop: int | None = None) -> torch.Tensor:
        """`size` clips of `frames` neighbouring frames with turned colours; mirrored upside down at times.

        `crop` cuts a square of that side at a multiple of 8, so that its 8x8 blocks are the whole frame's.

        Not mirrored left to right: which way the camera goes cannot be seen in a first frame, so that the clips have a
        convention (it goes right), and a mirror would break it.
        """
        picks = torch.multinomial(self.weights, size, replacement=True, generator=rng)
        start = int(torch.randint(self.frames.shape[1] - frames + 1, (1,), generator=rng))
        clips = self.get(picks, slice(start, start + frames))
        if crop is not None:
            y, x = (8 * int(torch.randint((side - crop) // 8 + 1, (1,), generator=rng)) for side in clips.shape[-2:])
            clips = clips[..., y : y + crop, x : x + crop]
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
