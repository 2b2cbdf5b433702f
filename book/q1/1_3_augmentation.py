# %% [markdown]
# # Augmentation
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# How are the training slices varied at random?
# This section shows five results, and checks what often goes wrong: slice and mask must move together, every epoch must differ, and a rerun must not.

# %% tags=["hide-input"]
# Set-up: gets the package on Google Colab; elsewhere it only goes to this notebook's folder.
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, is_zipfile

while "google.colab" in sys.modules and not Path("/content/hw3/colab.py").exists():
    from google.colab import files

    print("Choose hw3-colab.zip as `make colab` writes it; no other file will do.")
    for bundle in filter(is_zipfile, map(BytesIO, files.upload().values())):
        ZipFile(bundle).extractall("/content")
from hw3 import colab

colab.set_up("book/q1")

# %% tags=["hide-input"]
import numpy as np

from hw3 import plots
from hw3.segmentation import experiment
from hw3.segmentation.lgg import split
from hw3.segmentation.samples import TRANSFORMS, Augmentation
from hw3.settings import active, recipe
from hw3.tables import table

# %% [markdown]
# ## Five transforms
#
# A turned or mirrored brain is still a brain, and scanners differ in brightness and contrast. So each training slice is changed at random, together with its mask, by the report's five transforms from albumentations {cite}`buslaev2020`; their ranges are ours. Validation and test slices are never changed.

# %%
rows = [[name, type(own).__name__, f"{own.p:g}"] for name, own in TRANSFORMS.items()]
table(["transform", "albumentations", "probability"], rows)

# %% mystnb={"figure": {"name": "fig-1-2", "caption": "Five augmented training slices and their masks, after one random draw each: of the five patients with the largest tumours, the slice with the largest. This page's data, simulated."}, "image": {"alt": "Five brain slices, turned by quarter turns or mirrored, some brighter or of another tint, above five masks that are turned and mirrored with them."}}
chosen = recipe("unet", full="report")
dataset = experiment.prepare(active(), settings=chosen)
train = split(dataset, chosen.split, chosen.seed)["train"]
five = dataset.largest_tumours(train)[:5]
plots.slices_with_masks(dataset, five, Augmentation(chosen.seed))

# %% [markdown]
# ## The same draws on a rerun, others in each epoch
#
# Seed, epoch and the sample's index decide a draw, and nothing else does. Below, one slice is drawn in eight epochs, twice over; and its mask is given as an image too, to see that both move alike.

# %%
image, mask = dataset.images[five[0]], dataset.masks[five[0]]
drawn = np.repeat(255 * mask[..., None], 3, axis=2)  # the mask as an image


def eight_epochs(picture):
    return [Augmentation(seed=0)(picture, mask, epoch, index=0) for epoch in range(8)]


first, again, moved = map(eight_epochs, (image, image, drawn))
same = [np.array_equal(one, other) for (one, _), (other, _) in zip(first, again, strict=True)]
alike = [np.array_equal(picture.mean(axis=2) > 127, own > 0) for picture, own in moved]
rows = [
    ["different images", len({picture.tobytes() for picture, _ in first})],
    ["same images on a rerun", sum(same)],
    ["masks that moved as their image", sum(alike)],
]
table(["of 8 epochs", "count"], rows)
