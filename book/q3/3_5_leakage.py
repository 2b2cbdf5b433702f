# %% [markdown]
# # What a leak is worth
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Split by slice, as in the report, a network is tested on patients whose other slices it was trained on.
# This section measures on the same slices by how much that flatters it, and asks whether the road data leak, too.

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
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import bootstrap

import beyond
from hw3 import plots, records
from hw3.detection import ap
from hw3.segmentation import metrics
from hw3.tables import sources, table, with_interval

RUNS = Path("../runs")


# %% [markdown]
# ## The same slices, held out and leaked
#
# Two splits test different patients, and one patient is far harder than another; so their scores cannot be compared. Slices that both runs were tested on can. Two experiments do that:
#
# 1. *Our recipe.* Each patient was held out by one of the five runs of the cross-validation ({doc}`../q1/1_7_evaluation`). One more run of the same recipe, on about as many slices, was split by slice, as in the report. Compared are the validation and test slices of the latter.
# 2. *A controlled leak.* A small network, with a quarter of VGG16's channels at random weights, was trained with patients held out, and once more with every second slice of the test patients replacing as many slices of training patients. Both were scored on the other half of those patients' slices; start and number of steps are the same. Three seeds draw the test patients anew.

# %%
folds, by_slice = beyond.folds(RUNS), records.load(RUNS / "lgg-slice-cpu.json")
pairs = {
    "our recipe": (
        beyond.counts(folds),
        beyond.counts([by_slice] * len(folds), ("validation", "test")),
    ),
    "controlled leak": tuple(
        beyond.counts(records.load_seeds(RUNS / "leak", name)) for name in ("patient", "leaking")
    ),
}
patients = {title: beyond.patient_dice(*pair) for title, pair in pairs.items()}
rows = []
for title, own in patients.items():
    gains = own[:, 1] - own[:, 0]
    mean = bootstrap((gains,), np.mean, method="percentile", rng=0).confidence_interval
    pooled = with_interval(*metrics.dice_gain(*pairs[title]), "+.3f")
    rows.append([title, len(own), pooled, with_interval(gains.mean(), mean, "+.3f")])
    rows[-1].append(f"{np.median(gains):+.3f}")
header = ["pooled Dice, leaked − held out", "mean over patients", "median"]
table(["experiment", "patients with tumour", *header], rows)

# %% mystnb={"figure": {"name": "fig-3-6", "caption": "Dice of each patient with tumour over the same slices: when the patient was held out, and when the patient's other slices were trained on. Left our recipe, all folds together, right the controlled leak, all seeds together. Real data."}, "image": {"alt": "Two panels of points around a dotted diagonal. On the left most points lie in the upper right corner, close to the diagonal or just above it; a few lie far above. On the right they spread over the whole diagonal, more of them above than below."}}
with plots.report_style():
    figure, both = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.2), sharey=True)
    for axes, (title, dice) in zip(both, patients.items(), strict=True):
        axes.axline((0, 0), slope=1, color=plots.MUTED, linestyle="dotted")
        axes.scatter(*dice.T, s=22, color=plots.TRAINED, alpha=0.75, linewidth=0)
        axes.set_title(title, loc="left")
        axes.set(xlabel="Dice, patient held out", xlim=(-0.02, 1), ylim=(-0.02, 1), aspect="equal")
    both[0].set_ylabel("Dice, patient leaked")
figure

# %% [markdown]
# A split by slice flatters our recipe by about four hundredths of Dice, pooled or as a mean over patients; both intervals lie above 0. A few patients gain a lot; most gain or lose little, as the median and {numref}`fig-3-6` show. The controlled leak agrees in pooled Dice alone, and over patients shows next to nothing; a small network may remember too little. Every gain here holds one more thing: a network that leaks has met more patients.
#
# ## Photographs of one place
#
# Some photographs of GTSDB show one place, most of them moments apart. `tools/same_places.py` found a dozen pairs by corners that look alike {cite}`rublee2011`; there may be more. Where one of a pair is tested and the other was trained on, the road data leak as well. The table leaves these test images out; its numbers are means over the seeds.

# %%
places = [own["images"] for own in json.loads(Path("../same_places.json").read_text())["pairs"]]
detectors = {
    (title, split): records.load_seeds(RUNS, f"gtsdb-{name}-{split}")
    for title, name in (("Faster R-CNN", "frcnn"), ("SSD300", "ssd"))
    for split in ("official", "random")
}
rows = []
for title, runs in detectors.items():
    found = []
    for run in runs:
        test, train = (set(run.data["split"][part]) for part in ("test", "train"))
        leaked = {i for one in places for i, j in (one, one[::-1]) if i in test and j in train}
        matches = beyond.matches_of(run)
        kept = ~np.isin(matches.image_ids, [*leaked])
        left = ap.mean_average_precision(matches, weights=kept.astype(int))
        found.append([len(leaked), run.results["ap50"], left])
    images, whole, rest = np.mean(found, axis=0)
    rows.append([*title, f"{images:.1f}", f"{whole:.3f}", f"{rest:.3f}"])
table(["detector", "split", "test images leaked", "AP at IoU 0.5", "without these images"], rows)

# %% [markdown]
# They are too few to matter: without them, the scores hardly move.

# %% tags=["hide-input"]
segmenters = {"U-Net, by slice": by_slice, "U-Net, held out": folds}
small = {
    f"small U-Net, {name}": records.load_seeds(RUNS / "leak", name)
    for name in ("patient", "leaking")
}
sources(segmenters | small | {", ".join(title): runs for title, runs in detectors.items()})
