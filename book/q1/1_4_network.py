# %% [markdown]
# # The network
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section builds the network and draws it.
# {numref}`fig-1-3` is read off the model by one forward pass; nothing in it was drawn by hand.

# %% tags=["hide-input"]
# Set-up: does nothing outside Google Colab, and touches neither torch nor numpy.
import os
import subprocess
import sys
import zipfile
from glob import glob
from importlib.metadata import distributions
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

REPOSITORY, FOLDER, CONTENT = "", "book/q1", Path("/content")
LIGHT = "accelerate albumentations imagecodecs matplotlib nilearn requests safetensors tifffile"
LIGHT += " tqdm tyro"
if find_spec("google") and find_spec("google.colab"):
    from google.colab import drive, files

    home = CONTENT / "hw3"
    if not home.exists() and REPOSITORY:
        subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY, home], check=True)
    elif not home.exists():
        print("Choose hw3-colab.zip, the bundle that `make colab` writes.")
        zipfile.ZipFile(BytesIO(*files.upload().values())).extractall(home)
    missing = [name for name in LIGHT.split() if not find_spec(name)]
    heavy = [d for d in distributions() if d.name in ("torch", "torchvision", "numpy", "scipy")]
    as_they_are = [f"{d.name}=={d.version}" for d in heavy]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if missing:
        subprocess.run([*pip, *missing, *as_they_are], check=True)
    subprocess.run([*pip, "--no-deps", home], check=True)
    os.environ.setdefault("HW3_PROFILE", "full" if glob("/dev/nvidia[0-9]*") else "sample")
    os.environ.setdefault("HW3_DATA", str(CONTENT / "data"))
    os.environ.setdefault("HW3_RUNS", str(CONTENT / "runs"))
    if Path(os.environ["HW3_RUNS"]).is_relative_to(CONTENT / "drive"):
        drive.mount(str(CONTENT / "drive"))
    os.chdir(home / FOLDER)

# %% tags=["hide-input"]
from dataclasses import asdict

import torch

from hw3 import profiles
from hw3.segmentation import experiment, figures
from hw3.tables import Markdown, differences, environment

settings = profiles.FULL.segmentation
model = experiment.build(settings, "random")
environment(profiles.active())

# %% mystnb={"figure": {"name": "fig-1-3", "caption": "The structure of the network: output shapes (channels \u00d7 height \u00d7 width) and parameters, frozen or trained, as measured on the model."}, "image": {"alt": "A U-shaped diagram. Five grey boxes, the frozen blocks of VGG16, go down the left side. Four blue boxes, the trained decoder levels, come up the right side. An arrow leads across from each of the upper four grey boxes to the blue box beside it. A last blue box, a 1 by 1 convolution, gives one channel at full size."}}
figures.architecture(model, settings.image_size)

# %% [markdown]
# ## Reading the figure
#
# Down the left, VGG16 halves the image four times. Each level of the decoder doubles the size by repeating pixels, joins the encoder's map of that size, and applies two 3 × 3 convolutions, each with BatchNorm and ReLU. The last convolution gives one number a pixel, a *logit*: above 0 means tumour more likely than not.
#
# Two choices are ours, since the report does not state them. Feature maps are normalised before they are joined, because VGG16's activations, which nothing in it normalises, can be large. And the upsampling has no weights, which avoids the checkerboard that transposed convolutions can leave.

# %% tags=["hide-input"]
trained = sum(p.numel() for p in model.trained_parameters())
seen = model(torch.rand(2, 3, settings.image_size, settings.image_size)).shape
Markdown(
    f"Decoder channels {settings.decoder_channels}, {trained:,} trained parameters. Two images of "
    f"side {settings.image_size} give logits of shape {tuple(seen)}."
)

# %% [markdown]
# ## What the sample profile reduces
#
# The figure has the report's sizes. Without a GPU, pages of this book train a lighter network of the same structure, on smaller pictures. These are all the settings in which the two profiles differ:

# %% tags=["hide-input"]
differences(
    {
        f"profile {profile.name}": asdict(profile.segmentation)
        for profile in (profiles.FULL, profiles.SAMPLE)
    }
)

# %% [markdown]
# ## What this section showed
#
# One forward pass through a frozen encoder, a small decoder, and one logit for every pixel.
