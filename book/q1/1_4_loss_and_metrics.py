# %% [markdown]
# # Loss, metrics and optimiser
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# What is minimised, by which steps, and what is measured?
# This section mends the report's formula for Dice, and shows how far one set of predictions can be scored apart.

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
import json
from pathlib import Path

import numpy as np

import beyond
from hw3 import records
from hw3.segmentation.metrics import dice, scores
from hw3.tables import sources, table

# %% [markdown]
# ## The Dice coefficient
#
# Let $A$ be the true mask and $B$ the predicted one. Dice {cite}`dice1945` is their overlap as a share of their mean size, IoU as a share of their union. In pixels, with true positives TP, false positives FP and false negatives FN:
#
# $$\mathrm{Dice} = \frac{2\,|A \cap B|}{|A| + |B|} = \frac{2\,TP}{2\,TP + FP + FN}, \qquad \mathrm{IoU} = \frac{TP}{TP + FP + FN}, \qquad \mathrm{Dice} = \frac{2\,\mathrm{IoU}}{1 + \mathrm{IoU}}.$$
#
# The report writes $|A \cap B|^2 / (|A| + |B|)$, and says that the power 2 makes Dice sensitive to small regions. That is not a share of anything. A perfect prediction should score 1; by this formula it scores half its area:

# %%
areas = np.array([1, 10, 100, 1000])
rows = [areas, dice(areas, 0, 0), areas**2 / (2 * areas)]
table(
    ["perfect prediction of so many pixels", "Dice", "the report's formula"],
    [[f"{own:g}" for own in row] for row in zip(*rows, strict=True)],
)

# %% [markdown]
# Nor is Dice more sensitive to small regions than IoU: by the last equation, which the report has right, one rises with the other, so that, of one count, both put any two predictions in the same order.
#
# ## The loss
#
# Counts have no gradient. A Dice loss {cite}`milletari2016` puts the predicted probability $p$ in place of the predicted mask, here over a whole batch, with the true mask $a$. One pixel is added above and below, so that a batch without tumour has a defined loss:
#
# $$L = 1 - \frac{2 \sum p\,a + 1}{\sum p + \sum a + 1}$$
#
# The report minimises 1 − Dice; the added pixel and the sum over the batch are ours. Our own recipe adds cross-entropy, which also pulls at errors that the network is sure of.
#
# ## The optimiser
#
# The report trains with Adam {cite}`kingma2015` for 20 epochs, 20 slices a step. It does not state the learning rate; we take 0.001, the default of Keras. Our recipe uses Adam with weight decay, and a rate that rises at first and then falls to nothing. {doc}`1_5_network` lists all settings of both.
#
# ## One set of predictions, many scores
#
# The report gives its accuracy as evidence. But most pixels are not tumour, so that a network that never predicts any is nearly as accurate. Dice has another weakness: somebody must decide what a slice without tumour scores if it is rightly left empty, and whether counts are added up over all slices, over a patient, or over a batch. The predictions of one run of ours on real test slices, scored in each way:

# %%
run = records.load("../runs/lgg-slice.json")
found = scores(beyond.counts([run]), batch_size=20)
ways = {
    "accuracy": "accuracy",
    "accuracy of “no tumour anywhere”": "accuracy_all_background",
    "Dice, pooled over all slices": "dice",
    "Dice, mean over batches": "dice_batch_mean",
    "Dice, mean over slices, rightly empty counts 1": "dice_slice_mean_empty_is_1",
    "Dice, mean over slices with tumour": "dice_slice_mean_tumour_only",
    "Dice, mean over patients with tumour": "dice_patient_mean",
}
table(["real test slices", "score"], [[name, found[key]] for name, key in ways.items()])

# %% [markdown]
# Accuracy hardly tells a good network from none, and a Dice without its convention is no number. This book counts pixels for every slice, keeps the counts in the run's record, and divides once; where a page says only “Dice”, it is pooled.
#
# ## Loss and Dice that do not add up
#
# The report's loss is 1 − Dice, so that the two should add up to 1. They do in its training, but not in its validation:

# %%
report = json.loads(Path("../published.json").read_text())["original_report"]["segmentation"]
rows = [
    [f"report, {part}", report[part]["loss"], report[part]["dice"]]
    for part in ("train", "validation")
]
table(["", "loss", "Dice", "sum"], [[*row, row[1] + row[2]] for row in rows])

# %% [markdown]
# Probably the two are means of different kinds: 393 slices in batches of 20 leave a last batch of 13, which may count as a whole batch in one and by its slices in the other. The scores would be means over batches, as Keras makes them; pages that compare with them give ours in the same way.

# %% tags=["hide-input"]
sources({"ours, split by slice": run})
