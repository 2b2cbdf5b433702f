# %% [markdown]
# # The data
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section counts the signs by group and by size, in all images and in both parts of the split.
# It also names what is wrong in the published annotation.

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

REPOSITORY, FOLDER, CONTENT = "", "book/q2", Path("/content")
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
from hw3 import profiles
from hw3.detection import experiment, figures
from hw3.detection.dataset import GROUPS, SIZE_GROUPS
from hw3.tables import Markdown, environment, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
settings = profile.faster_rcnn
split = experiment.SPLITS[settings.split](dataset, settings.seed)
environment(profile)

# %% [markdown]
# ## Reading and checking
#
# Each line of `gt.txt` names an image, the corners of a box and a class. Every line is checked before anything is trained: number of fields, class, corners in order and inside the image, the file it names. The published file has one duplicated line, in image 00340; it is dropped with a notice. A training-only `gt.txt` beside all images is refused: three hundred images would silently turn into background.

# %% tags=["hide-input"]
without = sum(len(labels) == 0 for labels in dataset.labels)
signs = sum(map(len, dataset.labels))
notices = "; ".join(dataset.notices) or "none"
Markdown(
    f"This page's data ({kind}): {len(dataset)} images, {signs} signs, {without} images without any sign. Notices: {notices}."
)

# %% [markdown]
# Images without signs stay in: a detector must also learn, and be tested on, what is no sign.
#
# ## All images

# %% mystnb={"figure": {"name": "fig-2-2", "caption": "All signs by group."}, "image": {"alt": "Bar chart with a bar for each of the four sign groups. Prohibitory signs are the most frequent by far, mandatory signs the rarest."}}
figures.histogram_by_group(dataset, dataset.image_ids)

# %% [markdown]
# Sizes go by the width of the box: small below 32 pixels, medium from 32 to 45, large above.

# %% mystnb={"figure": {"name": "fig-2-3", "caption": "All signs by size."}, "image": {"alt": "Bar chart with a bar for small, medium and large signs; the three bars are of similar height."}}
figures.histogram_by_size(dataset, dataset.image_ids)

# %% [markdown]
# ## The split
#
# The report draws 20 % of the images at random for testing. Our real runs use the competition's own split, images 0 to 599 and 600 to 899, so that published figures can be set beside them. {numref}`fig-2-4` to {numref}`fig-2-7` show this page's two parts; their shapes should be, and are, like those above.

# %% mystnb={"figure": {"name": "fig-2-4", "caption": "Training signs by group."}, "image": {"alt": "Bar chart of the training signs by group, of the same shape as for all signs."}}
figures.histogram_by_group(dataset, split["train"])

# %% mystnb={"figure": {"name": "fig-2-5", "caption": "Training signs by size."}, "image": {"alt": "Bar chart of the training signs by size, three bars of similar height."}}
figures.histogram_by_size(dataset, split["train"])

# %% mystnb={"figure": {"name": "fig-2-6", "caption": "Test signs by group."}, "image": {"alt": "Bar chart of the test signs by group, with far fewer signs but of the same shape as for training."}}
figures.histogram_by_group(dataset, split["test"])

# %% mystnb={"figure": {"name": "fig-2-7", "caption": "Test signs by size."}, "image": {"alt": "Bar chart of the test signs by size, with far fewer signs than for training."}}
figures.histogram_by_size(dataset, split["test"])

# %% tags=["hide-input"]
counts = {part: dataset.counts(ids) for part, ids in split.items()}
table(
    ["part", "images", *GROUPS, *SIZE_GROUPS],
    [
        [
            part,
            len(split[part]),
            *(sum(own[group].values()) for group in GROUPS),
            *(sum(own[group][size] for group in GROUPS) for size in SIZE_GROUPS),
        ]
        for part, own in counts.items()
    ],
)

# %% [markdown]
# ## What this section showed
#
# Groups are unbalanced and sizes are not. Most signs cover a tiny part of their picture, which decides much of what follows.
