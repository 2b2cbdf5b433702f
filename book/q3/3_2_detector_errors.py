# %% [markdown]
# # Where detectors err
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section asks which mistakes the two detectors make on real photographs, and what each kind costs.
# Then it asks whether SSD300 cannot see small signs, as the report's figures suggest.

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
from functools import partial
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np
from torchvision.models.detection import fasterrcnn_resnet50_fpn

import beyond
from hw3 import plots, records
from hw3.detection import ap, experiment
from hw3.detection.errors import KINDS, costs, counts, find_errors
from hw3.detection.gtsdb import SIZE_GROUPS, size_group
from hw3.settings import OURS
from hw3.tables import sources, table

RUNS = Path("../runs")

# %% [markdown]
# ## Kinds of error
#
# The kinds are those of TIDE {cite}`bolya2020`. A detection that found no sign of its group at IoU 0.5 is wrong in one of five ways. A sign is missed if no detection found it, and none nearly did. The table counts wrong detections with a score of at least 0.5, and missed signs, on the 300 official test images, as means over the seeds. What a kind costs is what AP at IoU 0.5 would gain if its errors, at any score, were mended and all others stayed.

# %%
runs = {
    title: records.load_seeds(RUNS, f"gtsdb-{name}-official")
    for title, name in (("Faster R-CNN", "frcnn"), ("SSD300", "ssd"))
}
header, columns = ["kind", "which is"], []
for title, each in runs.items():
    found = [(own, find_errors(own)) for own in map(beyond.matches_of, each)]
    for what, measure, form in (("number", counts, ".1f"), ("cost", costs, ".3f")):
        values = [measure(*own) for own in found]
        header.append(f"{title}, {what}")
        columns.append([f"{fmean(own[kind] for own in values):{form}}" for kind in KINDS])
table(header, [[*kind, *own] for kind, *own in zip(KINDS.items(), *columns, strict=True)])

# %% [markdown]
# Two kinds cost nearly everything: false alarms on background, and missed signs. Signs are hardly ever found in the wrong place or twice, and seldom named wrongly. What is missed costs both about the same. Faster R-CNN raises more false alarms, yet they cost less than those of SSD300, since more of its true finds score above them; it is there that two stages are ahead. Some alarms may lie on signs that are none of the 43 classes, which nobody annotated.
#
# ## Signs that no box covers
#
# SSD300 moves and names default boxes, and Faster R-CNN's first stage moves anchors. A sign that none of them covers well is given to the one that fits best, so that fewer boxes learn from it. {numref}`fig-3-2` sets the share of the official test signs that some box covers, at an IoU of at least 0.5, beside the share that a trained detector finds, with the right group and at any score. The two SSD300 are those of {doc}`../q2/2_3_one_stage`.

# %%
whole, tiles = (records.load(RUNS / f"gtsdb-ssd-{name}.json") for name in ("whole", "third-run"))
two_stage = runs["Faster R-CNN"][0]
ssd300, ours = (experiment.build(OURS[name]) for name in ("ssd300", "faster-rcnn"))
torchvisions = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
ways = {
    "SSD300, whole image": (ssd300, False, whole),
    "SSD300, native tiles": (ssd300, True, tiles),
    "Faster R-CNN, torchvision's anchors": (torchvisions, False, None),
    "Faster R-CNN, our anchors": (ours, False, two_stage),
}

# %%
boxes = np.array([box for own in whole.evidence["truths"] for box in own["boxes_xyxy"]])
sizes = np.array([size_group(x2 - x1) for x1, _, x2, _ in boxes])
covered, found_by = {}, {}
for title, (model, tiled, run) in ways.items():
    hit, matches = beyond.covered(model, boxes, tiled), run and [beyond.matches_of(run)]
    for size in SIZE_GROUPS:
        covered[title, size] = hit[sizes == size].mean()
        measure = partial(ap.share_found, size_group=size)
        found_by[title, size] = ap.pooled(matches, measure) if run else None

# %% mystnb={"figure": {"name": "fig-3-2", "caption": "Share of the official test signs that some box covers at IoU 0.5 (bars), and share that the trained detector finds (points, with 95 % intervals over images), by size. Real data."}, "image": {"alt": "Four panels of three bars, for small, medium and large signs. SSD300 on whole images covers no small and no medium sign and two thirds of the large ones; its points lie far to the right of the empty bars. On native tiles, and with our anchors for Faster R-CNN, all bars and points lie at or near 1. torchvision's anchors cover two thirds of the small signs and all others."}}
with plots.report_style():
    figure, grid = plt.subplots(len(ways), 1, figsize=(plots.WIDTH, 5.6), sharex=True)
    for axes, title in zip(grid, ways, strict=True):
        shares = [covered[title, size] for size in SIZE_GROUPS]
        axes.barh(SIZE_GROUPS, shares, color=plots.MUTED, alpha=0.4)
        for size, share in zip(SIZE_GROUPS, shares, strict=True):
            text, own = f"{100 * share:.0f} %", found_by[title, size]
            if own:
                axes.hlines(size, *own[1], color=plots.PREDICTED, linewidth=2)
                axes.plot(own[0], size, "o", color=plots.PREDICTED)
                text += f", found {100 * own[0]:.0f} %"
            axes.text(1.02, size, text, va="center", fontsize=9)
        axes.set_title(title, loc="left")
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
    axes.set_xlabel("share of signs")
figure

# %% [markdown]
# Coverage explains much, not all. On whole images the boxes of SSD300 cover none of the small and medium signs, and it finds far fewer small ones than large ones. Yet it finds some of the small and most of the medium ones, since a sign that no box covers still trains one. On native tiles all but one sign are covered, and nearly every sign is found. So most of SSD300's weakness at small signs comes from shrinking the image; what remains on tiles is no larger than that of two stages ({doc}`../q2/2_4_comparison`). Both SSD300 began with weights that had seen tiles, which suits whole images less; a part of the gap may be due to that. Faster R-CNN's anchors are our choice, too: torchvision's own leave a third of the small signs uncovered.

# %% tags=["hide-input"]
sources(runs | {"SSD300, whole images": whole, "SSD300, tiles, as long": tiles})
