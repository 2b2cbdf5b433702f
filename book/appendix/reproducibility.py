# %% [markdown]
# # Reproducibility
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This page lists the long runs behind the book: what it ran on, how long, and the command that makes it again.
# It also says what can be expected to come out the same, and what cannot.

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

REPOSITORY, FOLDER, CONTENT = "", "book/appendix", Path("/content")
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

# %% tags=["hide-input"]
from datetime import timedelta
from pathlib import Path

from hw3 import records
from hw3.tables import Markdown, command, folded, table

folders = (Path("../runs"), Path("../runs/simulated"))
runs = {
    path.stem: records.load(path) for folder in folders for path in sorted(folder.glob("*.json"))
}

# %% [markdown]
# ## What comes out the same
#
# - **Scores of a record**: exactly. `python -m hw3 evaluate book/runs/NAME.json` computes every score again from the counts or boxes in the file, without the data.
# - **Simulated data, splits, order of samples, augmentation**: exactly, from the seed.
# - **What trained weights predict**: nearly. With `--data FOLDER --weights FILE` the same command predicts anew; on another processor numbers are rounded otherwise, and `--tolerance 0.001` says how far scores may then differ.
# - **A training run**: not to the last digit. On another processor, or with another number of threads, sums are taken in another order (on a GPU, in another order each time), and the scores come out a little different: {doc}`../q3/3_12_seeds` shows how much for three runs that were made on two.
# - **A run that was interrupted**: as if it had not been. The checkpoint holds the network, the optimiser, the schedule, the random generators and the place in the epoch.
#
# ## One figure again
#
# Every figure is the last line of one cell, which calls one function of `hw3` on a record or a data set. To draw figure 2.8 of the real run without running a page:
#
# ```python
# from hw3 import records
# from hw3.detection import figures
#
# run = records.load("book/runs/gtsdb-frcnn.json")
# figures.ap_by_threshold({"Real data": run}).savefig("figure-2-8.png")
# ```

# %% [markdown]
# ## Runs
#
# Hours are those of the training steps, on a machine that may have done other work as well. The short runs of {doc}`../q3/3_7_augmentation` and of the sections after it are described there, each with one of its commands; the three that {doc}`../q3/3_12_seeds` has from another processor have the commands of their namesakes here.

# %% tags=["hide-input"]
table(
    ["run", "data", "split", "seed", "hours", "seconds an image", "hardware", "torch", "commit"],
    [
        [
            name,
            run.data["kind"],
            run.settings["split"],
            run.seed,
            str(timedelta(seconds=round(run.seconds_training))) if run.history else None,
            f"{run.seconds_per_image:.2g}",
            f"{run.hardware['count']} × {run.hardware['device']}",
            run.versions["torch"],
            run.commit[:10],
        ]
        for name, run in runs.items()
    ],
)

# %% [markdown]
# ## Commands
#
# Check out the commit, put the data where `HW3_DATA` says, or in the folder that `--data` names, and the start weights where the command names them; take the Python of the environment (`.venv/bin/python`), and type what follows. Names in a command are those of the time; a file may have been given another since. `start_*.safetensors` are in `hw3/detection`, or made by the runs of these names below (the kept files are in half precision, so that they have another SHA-256 than the runs' own); `vgg16_features.safetensors` holds the convolutions of VGG16 trained on ImageNet, in place of which `imagenet` downloads torchvision's; another run's weights are made by its command.

# %% tags=["hide-input"]
Markdown("\n\n".join(folded(name, command(run)) for name, run in runs.items()))

# %% [markdown]
# Start weights and trained weights are known by their SHA-256:

# %% tags=["hide-input"]
table(
    ["run", "starts from", "its SHA-256", "SHA-256 of the trained weights"],
    [
        [
            name,
            run.weights["start"].removesuffix(".safetensors"),
            f"`{run.weights['start_sha256'][:12]}…`" if run.weights.get("start_sha256") else None,
            f"`{run.weights['sha256'][:12]}…`",
        ]
        for name, run in runs.items()
    ],
)

# %% [markdown]
# ## What this page showed
#
# Each number on real data can be traced to a command, a commit and a file, and each score can be computed again from what the file holds.
