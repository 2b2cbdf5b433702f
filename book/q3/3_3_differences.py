# %% [markdown]
# # What a difference must be
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# How far must the scores of two detectors lie apart before one may be called better?
# That depends on the test images, on the seed of the training, and on how many runs are taken together.

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
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t

import beyond
from hw3 import plots, records
from hw3.detection import ap
from hw3.tables import sources, table

RUNS = Path("../runs")


# %% [markdown]
# ## Test images
#
# From the 300 official test images, test sets of several sizes are drawn with replacement, a thousand of each size, and a run of each detector is scored on each. Half of the width that holds 95 % of the scores is their margin. {numref}`fig-3-3` has three: of one score (the mean of both detectors), of a difference where each detector has images of its own, and of a difference where both see the same.


# %%
def half_width(values):
    """Half of the width that holds 95 % of the values."""
    return float(np.subtract(*np.nanpercentile(values, [97.5, 2.5]))) / 2


def margins(first, second, size, resamples=1000):
    """Of one AP, and of a difference on separate and on the same images."""
    images = len(first.image_ids)
    drawn = np.random.default_rng(0).multinomial(size, np.full(images, 1 / images), (2, resamples))
    one, other = (ap.mean_average_precision(own, weights=drawn[0]) for own in (first, second))
    apart = ap.mean_average_precision(second, weights=drawn[1])
    alone = fmean([half_width(one), half_width(other)])
    return alone, half_width(one - apart), half_width(one - other)


# %%
official = [records.load_seeds(RUNS, f"gtsdb-{name}-official") for name in ("frcnn", "ssd")]
pair = [beyond.matches_of(runs[-1]) for runs in official]
sizes = (25, 50, 100, 200, 300, 600)
found = np.array([margins(*pair, size) for size in sizes])

# %% mystnb={"figure": {"name": "fig-3-3", "caption": "Margin of AP at IoU 0.5, and of a difference between the two detectors, against the number of test images. Real data."}, "image": {"alt": "Three falling curves on the numbers of images from 25 to 600. That of a difference on separate images lies highest; that of one score and that of a difference on the same images lie below it. All fall steeply up to two hundred images, then slowly."}}
with plots.report_style():
    figure, axes = plt.subplots(figsize=(plots.WIDTH, 3))
    names = ("one score", "difference, separate images", "difference, same images")
    colors = (plots.MUTED, plots.ONE_STAGE, plots.TWO_STAGE)
    for name, values, color in zip(names, found.T, colors, strict=True):
        axes.plot(sizes, values, "o-", color=color, label=name)
    axes.set(xlabel="test images", ylabel="margin of AP", ylim=(0, None))
    axes.legend(labelcolor="linecolor")
figure

# %% [markdown]
# On a few dozen images nearly any two detectors look alike. On 300, a score is known to about two hundredths, and so is a difference on the same images; tested on separate ones, two detectors must lie further apart. Twice as many images would narrow each margin by about a third.
#
# ## Seeds
#
# Another seed trains another detector. In the table, the margin over images is half of a score's 95 % interval, as the mean over the seeds. The margin over seeds is a 95 % one as well: by how much one run may lie off the mean of its recipe. So few runs say little about one recipe, so that the variance is pooled over the recipes. All are tested on the official test images.

# %%
runs = dict(zip(("Faster R-CNN", "SSD300"), official, strict=True))
runs["Faster R-CNN, ResNet50"] = records.load_seeds(RUNS, "gtsdb-frcnn-resnet50-official")
scores = [[own.results["ap50"] for own in recipe] for recipe in runs.values()]
freedom = sum(len(own) - 1 for own in scores)
deviation = (sum(np.var(own) * len(own) for own in scores) / freedom) ** 0.5
over_seeds, rows = f"± {t.ppf(0.975, freedom) * deviation:.3f}", []
for (title, recipe), own in zip(runs.items(), scores, strict=True):
    over_images = fmean(np.diff(run.results["ap50_interval"])[0] / 2 for run in recipe)
    each = ", ".join(f"{score:.3f}" for score in own)
    rows.append([title, each, f"± {over_images:.3f}", over_seeds])
table(["recipe", "AP at IoU 0.5 of each seed", "margin over images", "over seeds"], rows)

# %% [markdown]
# Another seed changes a score by less than another test set would: the seeds of one recipe share their start and their test images. Several runs ask one question better than each alone: {doc}`../q2/2_4_comparison` compares the two detectors over six pairs at once, where each resample draws pairs, and images, the same for both.

# %% tags=["hide-input"]
sources(runs)
