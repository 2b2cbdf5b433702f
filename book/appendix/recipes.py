# %% [markdown]
# # How the recipes came about
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Which runs on real data led to the recipes of this book, and what did each change bring?

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

colab.set_up("book/appendix")

# %% tags=["hide-input"]
import json
from pathlib import Path

from hw3.tables import Markdown, score, table, with_interval

# %% [markdown]
# ## The runs
#
# The detectors were scored on the official test images again and again, so that their recipes grew with a look at these.

# %%
history = json.loads(Path("../earlier_runs.json").read_text())["runs"]


def told(measure: str, title: str) -> Markdown:
    """The runs that have this measure, in the order in which they were made."""
    rows = [
        [
            f"`{run['run']}`",
            run["change"],
            run["samples"],
            score(run, measure),
        ]
        for run in history
        if measure in run
    ]
    return table(["record", "what changed", "samples", title], rows)


told("ap50", "AP at IoU 0.5")

# %%
told("dice", "Dice, validation slices")

# %% [markdown]
# Many records themselves lie in the history of the repository.
#
# ## What was learnt
#
# - **Harder proposals** brought most to the second stage: a crop that may propose as often as a whole image fills up with easy ones.
# - **Narrow networks from simulated roads** reach what wide ones from ImageNet reach, in fewer minutes, those of the start apart.
# - **Going on**, with crops around its own false alarms and then longer, added the rest, to both detectors; false alarms alone brought nothing (see below).
# - **BatchNorm in ResNet50's pyramid**: without it nearly all units of the box head fell silent, probably because features were far larger than VGG16's, and two groups of signs were never named with confidence. A run with it, with more channels and at half the learning rate names all.
# - **Crops at full size with cross-entropy beside the Dice loss**, then more and larger crops, raised the U-Net's Dice.
#
# ## Tried on folds
#
# The last changes were tried without a look at the test images, on Faster R-CNN at half the recipe's length: trained on two thirds of the official training images and scored on the rest, over as many such folds as the table says. A change was to stay if the interval of its gain lay above 0.

# %%
measured = json.loads(Path("../levers.json").read_text())
rows = []
for run in measured["runs"]:
    gain = with_interval(run["gain"], run["gain_interval"], "+z.3f")
    rows.append([run["change"], run["against"], run["folds"], score(run, "ap50"), gain])
table(["what changed", "against the same in", "folds", "AP at IoU 0.5", "gain"], rows)

# %% [markdown]
# No change was shown to raise AP. Bfloat16 was kept for speed.
#
# ## One run instead of steps
#
# What remains is one run for each network, the recipe `ours` of `hw3.settings`. It sees about as many crops as the last three steps above together, and none around its own false alarms. Both ways were run with the same seeds, two on the official split and three on random ones:

# %%
rows = []
for own in measured["one_run"]["runs"]:
    gain = with_interval(own["gain"], own["gain_interval"], "+z.3f")
    rows.append([own["detector"], own["split"], score(own, "steps"), score(own, "one_run"), gain])
table(["AP at IoU 0.5", "split", "in steps", "one run", "difference"], rows)

# %% [markdown]
# They are not told apart.
