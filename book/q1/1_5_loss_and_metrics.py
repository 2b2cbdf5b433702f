# %% [markdown]
# # Loss and metrics
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section derives the Dice coefficient and shows where the report's formula fails.
# It then shows which of several honest-looking numbers can be trusted when most slices hold no tumour.

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
import json
from pathlib import Path

import numpy as np
import torch

from hw3 import profiles, records
from hw3.segmentation.losses import dice_loss
from hw3.segmentation.metrics import dice, iou
from hw3.tables import Markdown, environment, table

profile = profiles.active()
environment(profile)

# %% [markdown]
# ## The Dice coefficient, and the formula in the report
#
# Let $A$ be the true mask and $B$ the predicted one. Dice {cite}`dice1945` is the overlap as a share of the mean size:
#
# $$\mathrm{Dice}(A, B) = \frac{2\,|A \cap B|}{|A| + |B|}$$
#
# In counts of pixels, with true positives TP, false positives FP and false negatives FN, $|A| = TP + FN$, $|B| = TP + FP$ and $|A \cap B| = TP$, so
#
# $$\mathrm{Dice} = \frac{2\,TP}{2\,TP + FP + FN}, \qquad \mathrm{IoU} = \frac{TP}{TP + FP + FN}, \qquad \mathrm{Dice} = \frac{2\,\mathrm{IoU}}{1 + \mathrm{IoU}}.$$
#
# The report writes $|A \cap B|^2 / (|A| + |B|)$ and says that the power 2 makes Dice sensitive to small regions. That formula is not a share of anything. For a perfect prediction it gives $|A|/2$, which grows with the tumour:

# %% tags=["hide-input"]
table(
    ["perfect prediction of", "Dice", "the report's formula"],
    [
        [f"{area} pixel{'s' * (area > 1)}", f"{dice(area, 0, 0):g}", f"{area**2 / (2 * area):g}"]
        for area in (1, 10, 100, 1000)
    ],
)

# %% [markdown]
# Nor is Dice more sensitive to small regions than IoU: one is an increasing function of the other, so both put any two predictions in the same order. The report's relation between the two was right.

# %% tags=["hide-input"]
drawn = np.random.default_rng(0).integers(0, 1000, size=(3, 2000))
order_dice, order_iou = (np.argsort(score(*drawn), kind="stable") for score in (dice, iou))
Markdown(
    f"Over {drawn.shape[1]:,} random predictions the two orders are equal: **{np.array_equal(order_dice, order_iou)}**."
)

# %% [markdown]
# ## The loss
#
# Counting is not differentiable. A Dice loss puts the predicted probability in place of the predicted mask. The one that was introduced first has squares below the line {cite}`milletari2016`; this one has plain sums, like the score, over the whole batch. One pixel is added above and below, so that a batch without tumour has a defined loss:
#
# $$L = 1 - \frac{2 \sum p\,a + 1}{\sum p + \sum a + 1}$$

# %% tags=["hide-input"]
empty, full = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
half = torch.cat([torch.ones(1, 1, 8, 4), torch.zeros(1, 1, 8, 4)], dim=3)
sure = 40.0
cases = {
    "all tumour, found": (full, full),
    "half tumour, found": (half, half),
    "half tumour, mirrored": (1 - half, half),
    "half tumour, everything predicted": (full, half),
    "no tumour, nothing predicted": (empty, empty),
    "no tumour, everything predicted": (full, empty),
}
table(
    ["64 pixels", "loss"],
    [[name, dice_loss(sure * (2 * p - 1), a).item()] for name, (p, a) in cases.items()],
)

# %% [markdown]
# ## Accuracy proves little
#
# The report gives its accuracy as evidence. Most pixels are not tumour, so a model that never predicts any is nearly as accurate:

# %% tags=["hide-input"]
real = records.load("../runs/lgg-slice.json").results["test"]
Markdown(
    f"On the real test slices, calling every pixel healthy has accuracy **{real['accuracy_all_background']:.4f}** "
    f"and Dice 0. Our run has accuracy {real['accuracy']:.4f} and Dice {real['dice']:.3f}."
)

# %% [markdown]
# ## Who decides about empty slices decides the score
#
# Most slices hold no tumour. If such a slice is left empty, is its Dice 1, or is it left out? And are counts added up over all slices, over a patient, or over a batch? The same predictions, scored in each way:

# %% tags=["hide-input"]
ways = {
    "pooled over all slices (ours)": "dice",
    "mean over batches (probably the report's way)": "dice_batch_mean",
    "mean over slices, rightly empty counts 1": "dice_slice_mean_empty_is_1",
    "mean over slices with tumour": "dice_slice_mean_tumour_only",
    "mean over patients with tumour": "dice_patient_mean",
}
table(
    ["Dice, our run on real test slices", "value"],
    [[name, real[key]] for name, key in ways.items()],
)

# %% [markdown]
# A batch mean depends on how slices happen to fall into batches. Our scores come from integer counts that are stored for every slice; nothing is averaged before it is counted.
#
# ## Loss and Dice that do not add up
#
# The report's loss is 1 − Dice. Of a batch, the two add up to 1, and so do their means if both are taken in the same way. The report's do in training, but not in validation:

# %% tags=["hide-input"]
report = json.loads(Path("../published.json").read_text())["original_report"]["segmentation"]
parts = ("train", "validation")
table(
    ["report", *parts],
    [
        *([name, *(report[part][name] for part in parts)] for name in ("loss", "dice")),
        ["sum", *(report[part]["loss"] + report[part]["dice"] for part in parts)],
    ],
)

# %% [markdown]
# One way to such a sum is a smaller last batch that counts as a whole one in one mean, and by its slices in the other. With the report's numbers of validation slices and of slices a batch, and a last batch that is easier than the others:

# %% tags=["hide-input"]
slices, size = report["slices"]["validation"], report["batch_size"]
sizes = np.diff([*range(0, slices, size), slices])
of_batch = np.where(sizes < size, 0.95, 0.86)  # made up
by_slices, by_batches = np.average(1 - of_batch, weights=sizes), of_batch.mean()
table(
    ["made-up Dice of 0.86 in full batches, 0.95 in the last", "value"],
    [
        ["slices in the last batch", int(sizes[-1])],
        ["loss, mean over slices, + Dice, mean over slices", by_slices + 1 - by_slices],
        ["loss, mean over slices, + Dice, mean over batches", by_slices + by_batches],
    ],
)

# %% [markdown]
# What the report did is not known. Counts leave no room for it: they are added up, and divided once.
#
# ## What this section showed
#
# Dice is $2|A \cap B| / (|A| + |B|)$. Accuracy says little here, and a Dice value says little without its rule for empty slices.
