# %% [markdown]
# # What average precision measures
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section shows on real detections which area average precision (AP) is.
# Then it repeats the step that made the report's own figures too low.

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
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np

import beyond
from hw3 import plots, records
from hw3.detection import ap
from hw3.detection.gtsdb import GROUPS
from hw3.tables import sources, table

RUNS = Path("../runs")

# %% [markdown]
# ## From detections to a curve
#
# All detections of one group on all test images are sorted by score. One is a hit if it overlaps a sign of its group with an IoU of at least 0.5 and no better one has taken that sign. At each rank, precision is the share of hits so far, and recall is the share of signs found so far. The table begins just before the first false alarm among SSD300's mandatory signs, the group that both detectors find hardest.

# %%
run = records.load_seeds(RUNS, "gtsdb-ssd-official")[0]
matches, label = beyond.matches_of(run), GROUPS.index("mandatory") + 1
precision, recall, score = ap.precision_recall(matches, label)
hit = np.diff(recall, prepend=0) > 0
first = max(0, np.flatnonzero(~hit)[0] - 2)
rows = zip(score, np.where(hit, "yes", "no"), precision, recall, strict=True)
rows = [[rank, f"{own[0]:.3f}", *own[1:]] for rank, own in enumerate(rows, 1)]
table(["rank", "score", "hit", "precision", "recall"], rows[first : first + 10])

# %% mystnb={"figure": {"name": "fig-3-1", "caption": "Precision against recall of SSD300 on mandatory signs at IoU 0.5, as measured (grey) and interpolated (blue). AP is the shaded area. Real data."}, "image": {"alt": "Precision stays at 1 up to a recall of about 0.8, then goes down in steps to a quarter near a recall of 1. A blue staircase lies on the peaks; the area below it is shaded."}}
with plots.report_style():
    figure, axes = plt.subplots(figsize=(plots.WIDTH, 2.8))
    best = ap.interpolate(precision)
    axes.fill_between([0, *recall], [best[0], *best], color=plots.TRAINED, alpha=0.12, step="pre")
    axes.plot(recall, precision, ".-", color=plots.MUTED, linewidth=1)
    axes.step([0, *recall], [best[0], *best], color=plots.TRAINED, where="pre")
    areas = [ap.average_precision(matches, label, interpolation=own) for own in ("101", "all")]
    axes.text(0.02, 0.08, "AP {:.3f}, exact area {:.3f}".format(*areas), color=plots.TRAINED)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
figure

# %% [markdown]
# Each false alarm lowers precision, and each hit raises it again, as in the last rows of the table. The interpolated curve in {numref}`fig-3-1` takes, at each recall, the best precision that this or any higher recall still offers. It ends at the last sign found: what is never found lowers AP, however sure the rest. AP is the area under it. COCO takes its mean at 101 levels of recall {cite}`lin2014`, and so does this book; PASCAL VOC {cite}`everingham2010` and the benchmark's own competition {cite}`houben2013` take the exact area.
#
# With another IoU threshold, other detections are hits, and the curve is another one. So AP is not “the area under the IoU curve”, as the report has it. A curve of AP against the threshold is drawn from ten such areas.
#
# ## The class that has no AP
#
# The report averaged over five classes, one of them the background. Nothing is annotated as background or returned as such, so that it has no AP; the report counted it as 0. It saw this itself: it says that its 0.58 and 0.52 are too low for that reason, and gives about 0.72 and 0.65 instead. The same can be done to our detectors:

# %%
report = json.loads(Path("../published.json").read_text())["original_report"]["detection"]
runs = {name: records.load_seeds(RUNS, f"gtsdb-{name}-random") for name in ("frcnn", "ssd")}
rows = []
for title, name, stages in (("Faster R-CNN", "frcnn", "two_stage"), ("SSD300", "ssd", "one_stage")):
    low, ours = (
        report[stages]["reported_over_5_classes"],
        fmean(own.results["ap50"] for own in runs[name]),
    )
    rows.append([f"{title}, the report", f"{low:.2f}", f"{low * 5 / 4:.2f}"])
    rows.append([f"{title}, ours", f"{ours * 4 / 5:.2f}", f"{ours:.2f}"])
table(
    [
        "AP at IoU 0.5, random splits",
        "mean with a zero for the background",
        "mean over the four groups",
    ],
    rows,
)

# %% [markdown]
# The background takes a fifth from any detector, a perfect one included, which would reach 0.80. Only means over the four groups are compared in this book.

# %% tags=["hide-input"]
sources({"SSD300, the curve": run, "Faster R-CNN": runs["frcnn"], "SSD300": runs["ssd"]})
