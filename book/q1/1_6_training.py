# %% [markdown]
# # Training
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section trains the network, here and now, on this page's data.
# It shows the curves beside those of a run on the real data, and sets both beside the report's numbers.

# %% tags=["hide-input"]
# Set-up: does nothing outside Google Colab, and touches neither torch nor numpy.
import os
import subprocess
import sys
import zipfile
from glob import glob
from importlib.metadata import distributions
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

REPOSITORY, FOLDER, CONTENT = "", "book/q1", Path("/content")
LIGHT = "accelerate albumentations imagecodecs matplotlib nilearn requests safetensors tifffile"
LIGHT += " tqdm tyro"
if find_spec("google") and find_spec("google.colab"):
    from google.colab import drive, files

    home = CONTENT / "hw3"
    if not home.exists() and REPOSITORY:
        subprocess.run(["git", "clone", "--quiet", "--depth=1", REPOSITORY, home], check=True)
    elif not home.exists():
        print("Choose hw3-colab.zip, the bundle that `make colab` writes.")
        zipfile.ZipFile(BytesIO(*files.upload().values())).extractall(home)
    missing = [name for name in LIGHT.split() if not find_spec(name)]
    heavy = [d for d in distributions() if d.name in ("torch", "torchvision", "numpy", "scipy")]
    as_they_are = [f"{d.name}=={d.version}" for d in heavy]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if missing:
        subprocess.run([*pip, *missing, *as_they_are], check=True)
    subprocess.run([*pip, "--no-deps", home], check=True)
    os.environ.setdefault("HW3_PROFILE", "full" if glob("/dev/nvidia[0-9]*") else "sample")
    os.environ.setdefault("HW3_DATA", str(CONTENT / "data"))
    os.environ.setdefault("HW3_RUNS", str(CONTENT / "runs"))
    if Path(os.environ["HW3_RUNS"]).is_relative_to(CONTENT / "drive"):
        drive.mount(str(CONTENT / "drive"))
    os.chdir(home / FOLDER)

# %%
import json
from pathlib import Path

from hw3 import profiles, records
from hw3.segmentation import experiment, figures
from hw3.tables import environment, provenance, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
environment(profile)

# %% [markdown]
# ## One loop
#
# The report trains with Adam {cite}`kingma2015` and does not state the learning rate. Our full profile takes its epochs, batch size and loss; the smaller profiles are shorter, have a lighter network ({doc}`1_4_network` lists the differences), and use a schedule of their own. The sample profile also trains on random crops, half of them laid around a tumour: a quarter of the pixels is a quarter of the arithmetic, and a network of convolutions that learnt on crops can be run on whole slices. The call below finds the finished run if there is one with the same settings, data and code; goes on where an interrupted run stopped; or trains.

# %%
ours, model = experiment.run(
    profile.segmentation, dataset, kind=kind, name="unet", folder=profiles.runs_folder()
)
provenance(ours)

# %% tags=["hide-input"]
real = records.load("../runs/lgg-first-run.json")
provenance(real)

# %% mystnb={"figure": {"name": "fig-1-4", "caption": "Accuracy, loss, IoU and Dice over the epochs, on what passes in training (augmented slices, or crops of them) and on whole validation slices. Above: the real data, from a record. Below: the run of this page."}, "image": {"alt": "Two blocks of four line charts. In both, accuracy, IoU and Dice rise and loss falls over the epochs, for training and validation slices alike. Accuracy starts near its ceiling, so that it shows little."}}
figures.curves({"Real data (LGG)": real, f"This page ({kind} data)": ours})

# %% [markdown]
# ## Beside the report
#
# {numref}`fig-1-4` ends at the numbers below. The report's are means over batches, on slices of patients it also trained on. Ours are given in the same way, and pooled.

# %% tags=["hide-input"]
report = json.loads(Path("../published.json").read_text())["original_report"]["segmentation"]
columns = {
    "accuracy": ("accuracy", "accuracy"),
    "Dice, mean over batches": ("dice", "dice_batch_mean"),
    "IoU, mean over batches": ("iou", "iou_batch_mean"),
    "Dice, pooled": (None, "dice"),
    "IoU, pooled": (None, "iou"),
}
table(
    [
        "validation slices",
        "report, 20 epochs",
        f"ours, real data, {len(real.history)} epochs",
        f"this page, {kind} data",
    ],
    [
        [
            name,
            report["validation"].get(theirs),
            real.results["validation"][own],
            ours.results["validation"][own],
        ]
        for name, (theirs, own) in columns.items()
    ],
)

# %% [markdown]
# ```{admonition} Three columns, three kinds of evidence
# The first column is copied from the original report. The second comes from a record of a run on the real LGG slices, with the command, the counts of every slice and the hardware in it. The third was computed by this page. The third says that the code works; it says nothing about patients.
# ```
#
# ## What this section showed
#
# The same call trains on simulated slices and on real ones, and leaves a record of either. The real column is one short run on slices of patients it also trained on; how far that flatters it is the question of the leakage that the data section counts.
