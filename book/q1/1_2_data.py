# %% [markdown]
# # Data preparation
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# What is in the slices, and which of them are trained on?
# This section reads and checks them, shows five, and splits them in the report's way and in a stricter one.

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
from pathlib import Path

import numpy as np

from hw3 import plots, records
from hw3.segmentation import experiment
from hw3.segmentation.lgg import split
from hw3.settings import active, recipe
from hw3.tables import environment, sources, table

RUNS = Path("../runs")
environment()

# %% [markdown]
# ## What the files hold
#
# The report takes the set `mateuszbuda/lgg-mri-segmentation` from Kaggle, reads its TIFF files with tifffile, and makes arrays of them; so does this book. A slice has 256 × 256 pixels and three channels: before contrast agent, FLAIR, and after contrast agent. FLAIR darkens fluid, so that swollen tissue and tumour stand out; shown as red, green and blue, a tumour looks green. Where a sequence is missing, the publisher repeats FLAIR. Each slice has a mask, 255 where the annotator saw tumour and 0 elsewhere.
#
# Everything is checked before anything is trained: every image has its mask and lies in its patient's folder, sizes agree, masks hold two values, every file can be decoded. All faults are reported at once. The arrays are kept on disk, so that the next start is quick.

# %% tags=["alone"]
chosen = recipe("unet", full="report")
dataset = experiment.prepare(active(), settings=chosen)

# %% [markdown]
# Beside this page's slices stand the real ones, counted in the record of a run:

# %%
by_slice, by_patient = (
    records.load(RUNS / f"lgg-{name}.json") for name in ("slice", "patients-fold0")
)
parts = by_slice.results.values()
share = sum(own["slices"] * (1 - own["accuracy_all_background"]) for own in parts)
with_tumour = dataset.native_masks.any(axis=(1, 2)).sum()
rows = [
    ["patients", by_slice.data["patients"], len(set(dataset.patient_ids))],
    ["slices", by_slice.data["slices"], len(dataset)],
    ["with tumour", sum(own["slices_with_tumour"] for own in parts), int(with_tumour)],
    [
        "tumour pixels",
        f"{share / by_slice.data['slices']:.2%}",
        f"{dataset.native_masks.mean():.2%}",
    ],
]
table(["", "real (LGG)", f"this page ({dataset.kind})"], rows)

# %% mystnb={"figure": {"name": "fig-1-1", "caption": "Five slices of the data set and their masks, not augmented: of five patients evenly spaced through the list, the slice with the largest tumour. This page's data, simulated."}, "image": {"alt": "Five brain slices in false colour above five black and white masks. In each slice a bright blob, green, yellow or turquoise, inside the brain has the place and outline of the white area of its mask."}}
largest = np.sort(dataset.largest_tumours(np.arange(len(dataset))))  # in the order of patients
five = largest[np.linspace(0, len(largest) - 1, 5).astype(int)]
plots.slices_with_masks(dataset, five)

# %% [markdown]
# ## Two ways to split
#
# The report splits **by slice**: all slices are shuffled and cut into training, validation and test. Neighbouring slices of one patient are much alike, and most test slices have a neighbour in training. Splitting **by patient** holds out whole patients. Here that is the first of five folds, in which each patient is tested once; folds are dealt out hospital by hospital, so that each has its share.

# %%
splits = {
    "real, by slice": by_slice.data["split"],
    "real, by patient": by_patient.data["split"],
    "this page, by slice": dataset.split_ids(split(dataset, "slice", 0)),
    "this page, by patient": dataset.split_ids(split(dataset, "fold0", 0)),
}
rows = []
for title, own in splits.items():
    sizes = [sum(map(len, own[part].values())) for part in ("train", "validation", "test")]
    shared = len(own["train"].keys() & own["test"].keys())
    rows.append([title, *sizes, f"{shared} of {len(own['test'])}"])
table(["split", "train", "validation", "test", "test patients trained on"], rows)

# %% [markdown]
# By slice, the real parts are as large as the report's, but which slices it drew is not known. Every test patient is trained on, too: a score there does not say how the network does on a new patient. {doc}`../q3/3_5_leakage` measures the difference.

# %% tags=["hide-input"]
sources({"real, by slice": by_slice, "real, by patient": by_patient})
