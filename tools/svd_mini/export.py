"""Writes the training states as a diffusers folder: fp16 safetensors, nothing pickled."""

import argparse
import json
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline

import codec
from images import build_image_encoder, build_processor
from unet import build_unet

LIMIT = 24_000_000  # bytes of the whole folder, which lives in a repository


def build_scheduler() -> EulerDiscreteScheduler:
    """Stable Video Diffusion's, but for sigma_max: 80 where that has 700.

    Latents of 16x16 are drowned at 80 already; from 700 on, 25 Karras steps would spend eight above that.
    """
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
        prediction_type="v_prediction", interpolation_type="linear", use_karras_sigmas=True, sigma_min=0.002,
        sigma_max=80.0, timestep_spacing="leading", timestep_type="continuous", steps_offset=1,
    )  # fmt: skip


def load_states(work: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The averaged autoencoder and U-net of a folder of training states."""
    vae, unet = codec.build_autoencoder(), build_unet()
    for model, name in ((vae, "autoencoder"), (unet, "unet")):
        model.load_state_dict(torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True)["average"])
    return vae, unet


def export(work: Path, out: Path) -> int:
    """Writes the pipeline below `out` and returns its size in bytes."""
    vae, unet = load_states(work)
    pipeline = StableVideoDiffusionPipeline(
        vae=vae, image_encoder=build_image_encoder(), unet=unet, scheduler=build_scheduler(),
        feature_extractor=build_processor(),
    )  # fmt: skip
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(out, variant="fp16", safe_serialization=True)
    # Without torchvision transformers names its fallback class; the plain name loads everywhere.
    index = out / "model_index.json"
    values = json.loads(index.read_text()) | {"feature_extractor": ["transformers", "CLIPImageProcessor"]}
    index.write_text(json.dumps(values, indent=2) + "\n")
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    if size > LIMIT:
        raise SystemExit(f"{out} is {size} bytes, more than {LIMIT}")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder with autoencoder.pt and unet.pt")
    parser.add_argument("out", type=Path, help="the diffusers folder, e.g. models/svd-mini")
    options = parser.parse_args()
    print(f"{export(options.work, options.out)} bytes in {options.out}")


if __name__ == "__main__":
    main()
