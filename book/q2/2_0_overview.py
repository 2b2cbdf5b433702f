# %% [markdown]
# # Traffic signs on the road
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Question 2 asks which of two detectors finds traffic signs better: Faster R-CNN, which works in two stages, or SSD300, which works in one.

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
import numpy as np

from hw3 import plots
from hw3.detection import experiment
from hw3.settings import active

# %% [markdown]
# The German Traffic Sign Detection Benchmark, GTSDB {cite}`houben2013`, holds photographs of roads with a box and a class for each sign. As in the report, the classes are merged into four groups: prohibitory, mandatory, danger and other. A detector gets a photograph and must return boxes, each with a group and a score. {numref}`fig-2-1` shows one sign, the largest that stands alone in its picture.

# %% tags=["alone"]
dataset = experiment.prepare(active())
alone = [boxes if len(boxes) == 1 else boxes[:0] for boxes in dataset.boxes_xyxy]
widths = [(boxes[:, 2] - boxes[:, 0]).sum() for boxes in alone]

# %% mystnb={"figure": {"name": "fig-2-1", "caption": "An annotated traffic sign: the whole image, and the sign in its surroundings with its box. This page's data, simulated."}, "image": {"alt": "Left, a road with a green box around one traffic sign. Right, the same sign enlarged, its box touching the sign on all four sides."}}
plots.annotated_sign(dataset, int(np.argmax(widths)))

# %% [markdown]
# | section | question | figures |
# | :-- | :-- | :-- |
# | {doc}`2_1_data` | How many signs of which kind are there, and how are they split? | {numref}`fig-2-2` to {numref}`fig-2-7` |
# | {doc}`2_2_two_stage` | How good is Faster R-CNN? | {numref}`fig-2-8` to {numref}`fig-2-11` |
# | {doc}`2_3_one_stage` | How good is SSD300? | {numref}`fig-2-12` to {numref}`fig-2-15` |
# | {doc}`2_4_comparison` | Which is better, and is the report right? | {numref}`fig-2-16` |
