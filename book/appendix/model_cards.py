# %% [markdown]
# # Model cards
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This page says of each model that was trained on real data what it is for, what it is not for, and how well it does.
# The numbers come from the records.

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
from pathlib import Path

from hw3 import records
from hw3.detection.dataset import SIZE_GROUPS
from hw3.tables import score, sources, table

# %% [markdown]
# ## U-Net for gliomas
#
# | property | value |
# | :-- | :-- |
# | Network | {doc}`../q1/1_1_model`: VGG16 encoder, frozen, ImageNet weights; decoder trained |
# | Input | one slice: before contrast agent, FLAIR, after contrast agent; 8 bits per channel |
# | Output | a logit per pixel: tumour or not |
# | For | learning how segmentation is trained and scored |
# | Not for | diagnosis, treatment, or any decision about a person |
# | Known limits | one slice at a time, so no context from neighbours; one outline drawn by hand is the truth; five hospitals; the split by slice puts neighbours of training slices into the test set, and flatters |

# %% tags=["hide-input"]
segmenters, detectors = (
    {path.stem: records.load(path) for path in sorted(Path("../runs").glob(pattern))}
    for pattern in ("lgg-*.json", "gtsdb-*.json")
)
table(
    ["run", "split", "Dice, test, pooled", "mean Dice per patient", "slices with tumour found"],
    [
        [
            name,
            run.settings["split"],
            score(run.results["test"], "dice"),
            score(run.results["test"], "dice_patient_mean"),
            f"{run.results['test']['slice_sensitivity']:.1%}",
        ]
        for name, run in segmenters.items()
        if run.history  # the others are weights of these, scored on another machine
    ],
)

# %% tags=["hide-input"]
sources(segmenters)

# %% [markdown]
# ## Detectors of traffic signs
#
# | property | value |
# | :-- | :-- |
# | Networks | {doc}`../q2/2_2_two_stage`: Faster R-CNN with VGG16 or ResNet50 and a feature pyramid; {doc}`../q2/2_3_one_stage`: SSD300 with VGG16, on native tiles; the later runs of each with VGG16 have a quarter of its channels; the later runs of all start from weights of simulated roads, or go on from a run that does |
# | Input | one photograph of a German road, 8 bits per channel |
# | Output | boxes with one of four groups and a score |
# | For | learning how detectors are trained, scored and compared |
# | Not for | driving, or assistance to a driver |
# | Known limits | groups, not single classes; one country; single images; the kinds of error are counted in {doc}`../q3/3_2_detector_errors` |

# %% tags=["hide-input"]
table(
    ["run", "split", "AP at IoU 0.5", "AP 0.50 to 0.95", *SIZE_GROUPS],
    [
        [
            name,
            run.settings["split"],
            score(run.results, "ap50"),
            score(run.results, "ap"),
            *(f"{value:.3f}" for value in run.results["ap50_by_size"].values()),
        ]
        for name, run in detectors.items()
    ],
)

# %% tags=["hide-input"]
sources(detectors)

# %% [markdown]
# ## What this page showed
#
# These are models to learn from. The weights of the runs on real data are not passed on with the book, only those from simulated roads at the start; the records hold what is needed to make them again.
