# %% [markdown]
# # Reproducibility
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# On what did the kept runs run, for how long, and with which command? What comes out the same when they are run again, and what does not?

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
from datetime import timedelta
from pathlib import Path

from hw3 import records
from hw3.records import RunRecord
from hw3.tables import command, environment, folded, hours, score, table

# %% [markdown]
# ## The records
#
# Each is a file under `book/runs`. Training steps took, in all:

# %%
folder = Path("../runs")
paths = sorted(folder.rglob("*.json"))
runs = {path.relative_to(folder).with_suffix("").as_posix(): records.load(path) for path in paths}
devices = sorted({run.hardware["device"] for run in runs.values()})
rows = []
for device in devices:
    own = [run for run in runs.values() if run.hardware["device"] == device]
    rows.append([device, len(own), hours(own)])
table(["device", "records", "hours : minutes : seconds"], rows)


# %%
def reached(run: RunRecord) -> str:
    """The pooled Dice on test slices alone, or AP at IoU 0.5."""
    detector = "ap50" in run.results
    return score(run.results, "ap50") if detector else score(run.results["test"], "dice")


rows = [
    [
        f"`{name}`",
        f"{run.settings['split']}, {run.seed}",
        reached(run),
        str(timedelta(seconds=round(run.seconds_training))),
        f"{run.seconds_per_image:.2g}",
        f"{run.hardware['count']} × {run.hardware['device'].removeprefix('CPU, ')}",
        run.versions["torch"],
        run.commit[:7],
    ]
    for name, run in runs.items()
]
header = [
    "record",
    "split, seed",
    "test: pooled Dice, or AP",
    "training",
    "seconds an image",
    "device",
    "torch",
]
folded(f"All {len(runs)} records", table([*header, "commit"], rows))

# %% [markdown]
# Records under `simulated/` are of simulated data, all others of real data. This page itself ran here:

# %%
environment()

# %% [markdown]
# ## On Colab
#
# Upload a page's notebook; its first cell asks for `hw3-colab.zip`, which `make colab` writes. With a GPU the page then works on the real data, which it fetches, otherwise on simulated ones.
#
# ## A run again
#
# A record holds what was typed. Check out its commit, put the data where `HW3_DATA` or `--data` says, use the environment's Python, and type it again. Options have the names of that commit. Start weights lie in `hw3/weights`, in half precision, so that their SHA-256 differs from that of the run that made them; `vgg16_features.safetensors` holds ImageNet's VGG16, in place of which `imagenet` downloads torchvision's; any other file is made by the run that it is named after, here or in the history of the repository. One command:

# %%
command(runs["gtsdb-frcnn-official-seed0"])

# %% [markdown]
# ## What comes out the same
#
# - **Scores of a record**, exactly: `python -m hw3 evaluate book/runs/NAME.json` computes each again from the counts or boxes in the file, without the data.
# - **Simulated data, splits, start weights drawn at random, order of samples, augmentation**, exactly: all follow from the seed.
# - **An interrupted run**, as if it had not been: its checkpoint holds network, optimiser, schedule, random generators and place in the epoch.
# - **What trained weights predict**, nearly: with `--data FOLDER --weights FILE`, `evaluate` predicts anew, and `--tolerance 0.001` says how far scores may differ.
# - **A training run**, exactly, on the same kind of processor with as many threads: `gtsdb-frcnn-official-seed0`, trained anew from its command in a clean clone of its commit, gave the same weights and the same boxes, bit for bit. On another processor or with other threads sums are taken in another order, and on a GPU in another order each time; the run is then, as it were, another seed ({doc}`../q3/3_3_differences`).
