# %% [markdown]
# # The data
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# How are the photographs read, and what must be checked before a detector is trained on them?
# How many signs of which group and size are there, in all and in both parts of a split?

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
import json
from pathlib import Path

from hw3 import plots
from hw3.detection import experiment
from hw3.detection.gtsdb import GROUPS, SIZE_GROUPS, group_of, split
from hw3.settings import active
from hw3.tables import table

# %% [markdown]
# ## Reading and checking
#
# The report read GTSDB with TensorFlow first, found that too complicated for these models, and read it again with PyTorch. Here all is PyTorch. One function reads the published folder, whose `gt.txt` has a line for each sign: image, corners of the box, class.

# %%
dataset = experiment.prepare(active())
signs = sum(map(len, dataset.labels))
print(f"{len(dataset)} images ({dataset.kind}), {signs} signs; notices: {len(dataset.notices)}.")

# %% [markdown]
# Every line is checked: number of fields, class, corners in order and inside the image, an image of that name. A line that repeats another is left out with a notice; the published file has one. A `gt.txt` of the training images alone, laid beside all images, is refused, for three hundred test images would silently become background. Images without a sign stay in: a detector must also learn, and be tested on, what is no sign.
#
# The class ids run from 0 to 42, which makes 43 classes and not 42, as the report has it. The four groups are those of the data set's own description:

# %%
members = {group: [i for i in range(43) if GROUPS[group_of(i) - 1] == group] for group in GROUPS}
table(
    ["group", "classes", "class ids"],
    [[group, len(ids), ", ".join(map(str, ids))] for group, ids in members.items()],
)

# %% [markdown]
# ## Splits and counts
#
# The report draws 20 % of the images at random for testing; which ones is not known. The competition has a split of its own, images 0 to 599 for training and 600 to 899 for testing, on which published figures rest. The table has both, with one random split of the report's kind, counted in the published `gt.txt`, and then this page's data. Sizes go by the width of the box: small below 32 pixels, medium from 32 to 45, large above.

# %%
real = json.loads(Path("../gtsdb_counts.json").read_text())["counts"]
own = split(dataset.image_ids, "random", seed=0)
parts = {
    "real: all": real["all"]["all"],
    **{f"real: competition, {part}": counts for part, counts in real["official"].items()},
    **{f"real: 80 / 20 % at random, {part}": counts for part, counts in real["random"].items()},
    f"{dataset.kind}: all": dataset.part_counts(dataset.image_ids),
    **{f"{dataset.kind}: {part}": dataset.part_counts(ids) for part, ids in own.items()},
}

# %%
rows = []
for title, part in parts.items():
    counts = part["signs"]
    by_group = [sum(counts[group].values()) for group in GROUPS]
    by_size = [sum(counts[group][size] for group in GROUPS) for size in SIZE_GROUPS]
    rows.append([title, part["images"], part["images_without_signs"], *by_group, *by_size])
table(["data", "images", "without signs", *GROUPS, *SIZE_GROUPS], rows)


# %% [markdown]
# {numref}`fig-2-2` to {numref}`fig-2-7` draw these counts, published ones on the left.


# %%
def both(theirs, image_ids):
    """Signs by group and size in a part of the published data, and of this page's."""
    titles = ("GTSDB, real", f"{dataset.kind}, this page")
    return dict(zip(titles, (theirs["signs"], dataset.counts(image_ids)), strict=True))


# %% mystnb={"figure": {"name": "fig-2-2", "caption": "All signs by group. Left: GTSDB, real. Right: This page's data, simulated."}, "image": {"alt": "Two bar charts with a bar for each of the four sign groups. In both, prohibitory signs are the most frequent by far and mandatory signs the rarest."}}
plots.histogram_by_group(both(real["all"]["all"], dataset.image_ids))

# %% mystnb={"figure": {"name": "fig-2-3", "caption": "All signs by size. Left: GTSDB, real. Right: This page's data, simulated."}, "image": {"alt": "Two bar charts with a bar for small, medium and large signs; in each the three bars are of similar length."}}
plots.histogram_by_size(both(real["all"]["all"], dataset.image_ids))

# %% mystnb={"figure": {"name": "fig-2-4", "caption": "Training signs by group, after a random split. Left: GTSDB, real. Right: This page's data, simulated."}, "image": {"alt": "Two bar charts of the training signs by group. As for all signs, prohibitory is the longest bar and mandatory the shortest."}}
plots.histogram_by_group(both(real["random"]["train"], own["train"]))

# %% mystnb={"figure": {"name": "fig-2-5", "caption": "Training signs by size, after a random split. Left: GTSDB, real. Right: This page's data, simulated."}, "image": {"alt": "Two bar charts of the training signs by size, with one bar for small, medium and large each, of similar length."}}
plots.histogram_by_size(both(real["random"]["train"], own["train"]))

# %% mystnb={"figure": {"name": "fig-2-6", "caption": "Test signs by group, after a random split. Left: GTSDB, real. Right: This page's data, simulated."}, "image": {"alt": "Two bar charts of the test signs by group, with far fewer signs than for training; prohibitory is again the longest bar."}}
plots.histogram_by_group(both(real["random"]["test"], own["test"]))

# %% mystnb={"figure": {"name": "fig-2-7", "caption": "Test signs by size, after a random split. Left: GTSDB, real. Right: This page's data, simulated."}, "image": {"alt": "Two bar charts of the test signs by size, with far fewer signs than for training; the three bars are less alike than there."}}
plots.histogram_by_size(both(real["random"]["test"], own["test"]))

# %% [markdown]
# The groups are unbalanced, the sizes hardly are. In a random fifth of the images some groups have few signs, so that a score on them depends much on which images were drawn. Nearly all signs are a small part of their picture, which decides how a detector must look at it ({doc}`2_3_one_stage`). This page's data follow the real frequencies, with fewer and smaller images.
