# %% [markdown]
# # Augmentation
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section varies the training slices at random and shows five results.
# It checks two things that often go wrong: every epoch must differ, and a rerun must not.

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
import numpy as np

from hw3 import profiles
from hw3.segmentation import experiment, figures
from hw3.segmentation.augment import TRANSFORMS, Augmentation
from hw3.segmentation.experiment import SPLITS
from hw3.tables import environment, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
train = SPLITS[profile.segmentation.split](dataset, profile.segmentation.seed)["train"]
environment(profile)

# %% [markdown]
# ## Five transforms
#
# A turned or mirrored brain is still a brain, and scanners differ in brightness and contrast. So each training slice is changed at random, together with its mask, by the report's five transforms from albumentations {cite}`buslaev2020`. Only training slices are changed; validation and test slices never are.

# %% tags=["hide-input"]
table(
    ["transform", "albumentations", "probability"],
    [
        [name, type(transform).__name__, f"{transform.p:g}"]
        for name, transform in TRANSFORMS.items()
    ],
)

# %% mystnb={"figure": {"name": "fig-1-2", "caption": "Five augmented training slices and their masks, after one random draw each: of the five patients with the largest tumours, the slice with the largest. This page's data, simulated."}, "image": {"alt": "Five brain slices, turned by quarter turns or mirrored, some brighter or of another tint, above five masks that are turned and mirrored with them."}}
augmentation = Augmentation(profile.segmentation.seed)
five = dataset.largest_tumours(train)[:5]
figures.augmented_slices(dataset, five, augmentation)

# %% [markdown]
# ## Other draws each epoch, the same draws on a rerun
#
# {numref}`fig-1-2` is one draw. The draw of a sample is decided by the seed, the epoch and the sample's index, and by nothing else. A worker process that restarts cannot repeat an epoch's draws, and a rerun repeats all of them.

# %% tags=["hide-input"]
image, mask = np.array(dataset.images[five[0]]), np.array(dataset.masks[five[0]])
draws = [augmentation(image, mask, epoch, index=0)[0] for epoch in range(8)]
again = [augmentation(image, mask, epoch, index=0)[0] for epoch in range(8)]
# The mask as an image, too: brightness changes it, but where it is bright it must be the mask.
drawn = np.repeat(255 * mask[..., None], 3, axis=2)
moved = [augmentation(drawn, mask, epoch, index=0) for epoch in range(8)]
table(
    ["check", "result"],
    [
        ["different images in 8 epochs", len({draw.tobytes() for draw in draws})],
        ["identical on a rerun", "yes" if all(map(np.array_equal, draws, again)) else "no"],
        ["different masks in 8 epochs", len({own.tobytes() for _, own in moved})],
        [
            "a mask given as the image comes out as the mask does",
            "yes" if all(np.array_equal(a.mean(axis=2) > 127, b > 0) for a, b in moved) else "no",
        ],
        ["mask values after all draws", ", ".join(map(str, np.unique([own for _, own in moved])))],
    ],
)

# %% [markdown]
# ## What this section showed
#
# Slice and mask move together, masks keep their two values, epochs differ, and reruns agree.
