# %% [markdown]
# # One stage: SSD300
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# How well does SSD300 find traffic signs on the whole image, as the report used it, and how well on tiles of native size?
# It is scored as Faster R-CNN was, by threshold, group and size.

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

colab.set_up("book/q2")

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np

import beyond
from hw3 import plots, records
from hw3.detection import experiment
from hw3.detection.gtsdb import SIZE_GROUPS
from hw3.settings import OURS, REPORT, active, recipe, runs_folder
from hw3.tables import differences, provenance, seeds, sources, table

RUNS = Path("../runs")

# %% [markdown]
# ## How it works
#
# SSD {cite}`liu2016` has no proposals. VGG16 {cite}`simonyan2015` extracts features, and no more: it does not classify the detections, as the report has it. Convolutional heads on six feature maps, from fine to coarse, name and move several thousand default boxes, all at once. In training, each default box that covers a sign is to say so, and the hardest of the others are to say nothing.
#
# ## Two recipes
#
# **The report's**: torchvision's SSD300 from COCO weights, fine-tuned for 40 epochs, all else as in {doc}`2_2_two_stage`. This recipe has no record either, and on a Colab GPU this page runs it.
#
# **Ours** is trained and tested as is told there, with more crops around signs and two more changes. SSD300 sees tiles of 300 native pixels, which overlap by more than the largest sign, and what it finds in them is merged. And a crop without a sign teaches torchvision's SSD nothing, for it counts background in proportion to the signs of each image; ours counts over the batch (`mining`), so that false alarms cost something wherever they are.

# %% tags=["alone"]
chosen = recipe("ssd300", full="report")
dataset = experiment.prepare(active())
ours, model = experiment.run(chosen, dataset, runs_folder())
provenance(ours)

# %%
real = records.load_seeds(RUNS, "gtsdb-ssd-official")
asked = REPORT["ssd300"].model_dump(exclude={"seed"})
asked["sign_share"] = None  # it has no crops
columns = {"real data": real[0].settings, "this page": ours.settings}
own = {title: {name: used.get(name) for name in asked} for title, used in columns.items()}
differences({"report": asked} | own)

# %% [markdown]
# ## Whole images or tiles
#
# SSD300 sees 300 × 300 pixels. Where the whole photograph is made that small, a sign of 30 pixels is left with 7. The table has two runs on real data with the same start, tested on the 300 official images. They saw as many pictures: one whole images, the other tiles, among them some around false alarms of the common start.

# %%
whole, tiles = (records.load(RUNS / f"gtsdb-ssd-{name}.json") for name in ("whole", "third-run"))
boxes = np.array([box for own in whole.evidence["truths"] for box in own["boxes_xyxy"]])
ssd300, rows = experiment.build(OURS["ssd300"]), []
for title, run in (("whole images", whole), ("native tiles", tiles)):
    covered = beyond.covered(ssd300, boxes, tiled=run is tiles)
    by_size = [seeds([run], "ap50_by_size", size) for size in SIZE_GROUPS]
    rows.append([title, f"{covered.mean():.1%}", seeds([run], "ap50"), *by_size])
table(["real data", "signs covered", "AP at IoU 0.5", *SIZE_GROUPS], rows)

# %% [markdown]
# A sign is covered if some default box overlaps it with an IoU of at least 0.5. On whole images less than a quarter of the signs are covered, none of them small or medium; on tiles, all but one. The network learns something of the others too, since each sign is given the box that fits it best, yet it is left far behind. {numref}`fig-3-2` sets coverage beside what is found.
#
# ## On real roads
#
# These are the runs of our recipe, on tiles, made as “How this was run” in {doc}`2_2_two_stage` says. As there, bands and bars are 95 % intervals over runs and images.

# %%
title = f"{dataset.kind}, this page"
runs = {"GTSDB, real": real, title: [ours]}
rows = [
    [name, len(own), len(own[0].data["split"]["test"]), seeds(own, "ap50"), seeds(own, "ap")]
    for name, own in runs.items()
]
table(["data", "runs", "test images", "AP at IoU 0.5", "mean AP, IoU 0.50 to 0.95"], rows)

# %% mystnb={"figure": {"name": "fig-2-12", "caption": "SSD300: mean AP over the four groups against the IoU threshold, with 95 % intervals. Blue: GTSDB, real. Grey: This page's data, simulated."}, "image": {"alt": "Line chart. Both curves fall slowly at first and steeply beyond a threshold of 0.8; the blue one, real data, begins at about 0.95 and lies above the grey one."}}
plots.ap_by_threshold(runs)

# %% mystnb={"figure": {"name": "fig-2-13", "caption": "SSD300: AP at IoU 0.5 of each group, with 95 % intervals. Blue: GTSDB, real. Grey: This page's data, simulated."}, "image": {"alt": "Two points with intervals for each of four groups. On real data prohibitory signs are found best, near 1, and mandatory ones worst, with the widest interval."}}
plots.ap_by_group(runs)

# %% mystnb={"figure": {"name": "fig-2-14", "caption": "SSD300: mean AP at IoU 0.5 of each size, with 95 % intervals. Blue: GTSDB, real. Grey: This page's data, simulated."}, "image": {"alt": "Two points with intervals for each of three sizes. On real data medium and large signs are found about equally well, and small ones less well."}}
plots.ap_by_size(runs)

# %% [markdown]
# The order of the groups is that of Faster R-CNN: prohibitory signs first, mandatory ones last. Small signs are found less well than others. The curve against the threshold falls earlier: boxes fit less tightly.

# %%
table(
    ["group", "signs", "found, any score", "found, score ≥ 0.5", "false alarms, score ≥ 0.5"],
    beyond.found_by_group(real),
)

# %% [markdown]
# At some score nearly every sign is found. With a score of at least 0.5 SSD300 has fewer false alarms than Faster R-CNN, and lets more signs go.

# %% tags=["hide-input"]
road = records.load(RUNS / "simulated/start-ssd300.json")
kept = {"our recipe": real, "whole images": whole, "native tiles, as long": tiles}
sources(kept | {"start of all of them": road})

# %% [markdown]
# ## On this page's roads
#
# {numref}`fig-2-15` shows six of this page's test images with signs, evenly spaced through the list, with all detections that score at least 0.5.

# %% mystnb={"figure": {"name": "fig-2-15", "caption": "SSD300: true boxes (green) and predicted ones (orange, with group and score) in six test images. This page's data, simulated."}, "image": {"alt": "Six road scenes. Most signs carry a green and an orange box that nearly coincide, with the predicted group and score written beside; here and there an orange box is missing, or stands where no sign is."}}
tested = [truth["image_id"] for truth in ours.evidence["truths"] if truth["labels"]]
shown = tested[:: max(1, len(tested) // 6)][:6]
plots.boxes(dataset, shown, ours.evidence["detections"])

# %% [markdown]
# SSD300 stays behind Faster R-CNN on these roads: it is sure of fewer signs. It also saw fewer crops, so that this is no fair race.
