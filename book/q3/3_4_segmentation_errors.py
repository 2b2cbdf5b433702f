# %% [markdown]
# # Where the segmenter errs
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section asks which tumours the U-Net outlines badly, how far its outlines lie off, and whether its probabilities may be believed.
# Then it asks what looking eight times at each slice adds.

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

colab.set_up("book/q3")

# %% tags=["hide-input"]
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import beyond
from hw3 import plots, records
from hw3.segmentation import metrics
from hw3.tables import score, sources, table, with_interval

COLORS = {"split by slice": plots.MUTED, "patients held out": plots.TRAINED}

# %% [markdown]
# ## Two networks, examined once
#
# Both are the U-Net of {doc}`../q1/1_6_training`, trained with our recipe and larger crops: one on the report's split by slice, the other with whole patients held out. Records hold no masks; so each looked once more at its own validation and test slices. These are other slices for each, so that what follows shows how both err, and not which is better ({doc}`3_5_leakage`).

# %%
examined = {
    title: beyond.read_examined(sorted(Path("../examined").glob(f"lgg-{name}-*.json")))
    for title, name in zip(COLORS, ("slice", "patient"), strict=True)
}
once = {title: beyond.looked_at(slices, "plain") for title, (slices, _) in examined.items()}

# %% [markdown]
# ## Small tumours
#
# {numref}`fig-3-4` sets the Dice of each slice with tumour against the tumour's area.

# %% mystnb={"figure": {"name": "fig-3-4", "caption": "Dice of each slice with tumour against the tumour's area, and the means of five equal parts of the slices, from the smallest tumours to the largest. Real data."}, "image": {"alt": "Two clouds of points over a logarithmic axis of areas, each with a line of five means. Both lines rise from between 0.5 and 0.6 at the smallest tumours to about 0.9 at the largest. Many points of small tumours lie at 0, hardly any of large ones."}}
with plots.report_style():
    figure, axes = plt.subplots(figsize=(plots.WIDTH, 3.2))
    for title, counted in once.items():
        areas, dices = counted.true_positive + counted.false_negative, metrics.dice(*counted.triple)
        order = np.argsort(areas)[np.sum(areas == 0) :]
        axes.scatter(areas[order], dices[order], s=7, alpha=0.3, linewidth=0, color=COLORS[title])
        parts = np.array_split(order, 5)
        means = [(np.median(areas[own]), dices[own].mean()) for own in parts]
        axes.plot(*zip(*means, strict=True), "o-", color=COLORS[title], label=title)
    axes.set(xscale="log", xlabel="area of the tumour, pixels", ylabel="Dice of the slice")
    figure.legend(loc="outside upper left", ncols=2, labelcolor="linecolor")
figure

# %% [markdown]
# A few wrong pixels hardly change the Dice of a large tumour, and can take all of a small one's. In the fifth with the smallest tumours, several slices have no pixel in common with what is predicted, and mean Dice is far lower than in the rest. A mean over slices therefore depends on how many small tumours there are; this book pools counts, and gives the mean over patients beside it.
#
# ## Outlines and probabilities
#
# Dice does not say how far off a wrong outline is. The 95 % Hausdorff distance is nearly the largest distance from one outline to the other; surface Dice {cite}`nikolov2021` is the share of both outlines that lies within two pixels of the other. Calibration asks whether, of all pixels with a probability near 0.7, seven tenths are tumour; the expected calibration error {cite}`guo2017` is the mean gap over all pixels.

# %% mystnb={"figure": {"name": "fig-3-5", "caption": "Left: the share of slices, of those with a true and a predicted mask, whose 95 % Hausdorff distance is at most the value on the axis. Right: the share of pixels that are tumour, against their predicted probability; the dotted line is perfect calibration. Real data."}, "image": {"alt": "On the left, two rising curves, that of patients held out to the right of the other: most distances are below ten pixels, with a long tail. On the right, ten points of each network: from near 0 they jump to a third or more, rise little to between 0.5 and 0.6, and end above 0.9; they lie above the dotted diagonal at low probabilities and below it at high ones."}}
with plots.report_style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3))
    right.axline((0, 0), slope=1, color=plots.MUTED, linestyle="dotted")
    for title, (slices, bins) in examined.items():
        distances = [own["hausdorff_95"] for own in slices if own["hausdorff_95"] is not None]
        left.ecdf(distances, color=COLORS[title], label=title)
        shares = [bins[name] / bins["pixels"] for name in ("probability", "tumour")]
        right.plot(*shares, "o-", color=COLORS[title])
    left.set(xlabel="95 % Hausdorff distance, pixels", ylabel="share of slices", xscale="log")
    left.set_xticks([1, 3, 10, 30, 100], [1, 3, 10, 30, 100])
    right.set(xlabel="predicted probability", ylabel="share that is tumour", ylim=(-0.02, 1.02))
    figure.legend(loc="outside upper left", ncols=2, labelcolor="linecolor")
figure

# %%
rows = []
for title, (slices, bins) in examined.items():
    both = [own for own in slices if own["hausdorff_95"] is not None]
    far, near = (np.array([own[name] for own in both]) for name in ("hausdorff_95", "surface_dice"))
    error = np.abs(bins["probability"] - bins["tumour"]).sum() / bins["pixels"].sum()
    cells = [np.median(far), np.quantile(far, 0.9), np.median(near)]
    rows.append([title, len(both), *(f"{own:.2f}" for own in cells), f"{error:.4f}"])
header = ["95 % Hausdorff, median", "its 90th percentile", "surface Dice, median"]
table(["network", "slices with both masks", *header, "calibration error"], rows)

# %% [markdown]
# In half of the slices the outline lies off by a few pixels; in one of ten some part of it lies far away. Where the network is not sure, its probabilities say little: of the pixels between 0.1 and 0.9, between a third and three fifths are tumour at every level, more than it says at the lower end and fewer at the upper. The error over all pixels is small because nearly all of them are background that nobody would doubt.
#
# ## Eight looks instead of one
#
# A slice can be turned and mirrored in eight ways. The mean of the eight predictions costs eight times as much.

# %%
rows = []
for title, (slices, _) in examined.items():
    eight = beyond.looked_at(slices, "averaged")
    results = [metrics.scores(own, batch_size=1) for own in (once[title], eight)]
    added = with_interval(*metrics.dice_gain(once[title], eight), "+.4f")
    patients = " → ".join(f"{own['dice_patient_mean']:.3f}" for own in results)
    rows.append([title, len(eight), *(score(own, "dice") for own in results), added, patients])
header = ["pooled Dice, one look", "eight looks", "difference", "mean over patients"]
table(["network", "slices", *header], rows)

# %% [markdown]
# Eight looks add a little, beyond chance in the patients, with either split. Scores elsewhere in this book are those of one look.

# %% tags=["hide-input"]
names = zip(COLORS, ("slice", "patient"), strict=True)
sources({title: records.load(f"../runs/lgg-{name}.json") for title, name in names})
