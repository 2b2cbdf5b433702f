# %% [markdown]
# # How large must a difference be?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section asks how far a score may lie from the truth only because of the images it was taken on.
# The answer says which differences between detectors mean something, and what is gained if both see the same images.

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

REPOSITORY, FOLDER, CONTENT = "", "book/q3", Path("/content")
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
from hw3 import records
from hw3.detection import comparison, figures
from hw3.tables import Markdown, sources

runs = {
    "Faster R-CNN": records.load("../runs/gtsdb-frcnn.json"),
    "SSD300": records.load("../runs/gtsdb-ssd-tiles.json"),
}
first, second = map(comparison.matches_of, runs.values())

# %% tags=["hide-input"]
sources(runs)

# %% [markdown]
# ## Margins
#
# From the official test images of both real runs, test sets of several sizes are drawn, with replacement, a thousand of each size, and scored. The margin is half the width of the interval that holds 95 % of the scores. Three margins are drawn: of one detector's AP at IoU 0.5, as the mean of both; of the difference between two detectors, each tested on images of its own; and of that difference when both see the same images.

# %% mystnb={"figure": {"name": "fig-3-5", "caption": "Margin of AP at IoU 0.5, and of a difference between two detectors, against the number of test images. Real data."}, "image": {"alt": "Three falling curves. The margin of a difference on separate images lies highest. That of one detector and that of a difference on the same images lie below it, close to each other. All fall steeply up to about two hundred images, then slowly."}}
images = [25, 50, 100, 200, 300, 600]
margins = comparison.margins(first, second, images)
figures.margins(images, margins)

# %% tags=["hide-input"]
alone, apart, together = (own[images.index(300)] for own in margins.values())
few_apart, few = (own[images.index(50)] for own in list(margins.values())[1:])
Markdown(
    f"On 300 images, the competition's test set, one score is known to ± {alone:.3f}. Two detectors "
    f"tested on different images must differ by more than {apart:.3f} before the difference means "
    f"something; tested on the same images, by more than {together:.3f}. With 50 images it would be "
    f"{few_apart:.3f} and {few:.3f}. The same images narrow the margin by {1 - together / apart:.0%} "
    "here; it is more the more often two detectors err on the same images."
)

# %% [markdown]
# Images are only one source of chance. Another training run with another seed would differ as well; the margin above does not include that, and {doc}`3_12_seeds` measures it.
#
# ## What this section showed
#
# A table of two scores without a margin does not say which detector is better. On the competition's images the margin of a difference is about as large as that of a single score, if both detectors see the same images, and a difference has to exceed it before it means something.
