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

# %% tags=["hide-input"]
import json
from pathlib import Path

import numpy as np

from hw3 import profiles
from hw3.detection import experiment, figures
from hw3.detection.dataset import GROUPS, SIZE_GROUPS, group_of
from hw3.detection.signs import SIGN_NAMES
from hw3.tables import Markdown, environment, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
settings = profile.faster_rcnn
split = experiment.SPLITS[settings.split](dataset, settings.seed)
published = json.loads(Path("../gtsdb_counts.json").read_text())
real = published["counts"]
environment(profile)

# %% [markdown]
# ## Reading and checking
#
# Each line of `gt.txt` names an image, the corners of a box and a class. Every line is checked before anything is trained: number of fields, class, corners in order and inside the image, the file it names. A line that repeats another is dropped with a notice. A training-only `gt.txt` beside all images is refused: three hundred images would silently turn into background.

# %% tags=["hide-input"]
without = sum(len(labels) == 0 for labels in dataset.labels)
total = sum(map(len, dataset.labels))
notices = "; ".join(dataset.notices) or "none"
Markdown(
    f"This page's data ({kind}): {len(dataset)} images, {total} signs, {without} images without any sign. Notices: {notices}. "
    f"The published file: {'; '.join(published['notices'])}."
)

# %% [markdown]
# Images without signs stay in: a detector must also learn, and be tested on, what is no sign.
#
# The class ids run from 0 to 42, which makes 43 classes; the report says 42. Each belongs to one of the four groups:

# %% tags=["hide-input"]
members = {
    group: [i for i in range(len(SIGN_NAMES)) if GROUPS[group_of(i) - 1] == group]
    for group in GROUPS
}
table(
    ["group", "classes", "class ids"],
    [[group, len(ids), ", ".join(map(str, ids))] for group, ids in members.items()],
)


# %% [markdown]
# ## The real counts
#
# This book does not pass on the real photographs, which are left to their publisher. Here are their counts. They were taken from the published `gt.txt` by the same code that reads this page's data.


# %% tags=["hide-input"]
def row(title: str, part: dict) -> list:
    images = f"{part['images']} ({part['images_without_signs']})"
    by_group = [sum(part["signs"][group].values()) for group in GROUPS]
    by_size = [sum(part["signs"][group][size] for group in GROUPS) for size in SIZE_GROUPS]
    return [title, images, *by_group, *by_size]


header = ["images (without signs)", *GROUPS, *SIZE_GROUPS]
titles = {"all": "all", "official": "competition", "random": "80 / 20 % at random"}
table(
    ["real GTSDB", *header],
    [
        row(part if name == "all" else f"{titles[name]}: {part}", counts)
        for name, parts in real.items()
        for part, counts in parts.items()
    ],
)

# %% tags=["hide-input"]
every = real["all"]["all"]["signs"]
group_totals = {group: sum(every[group].values()) for group in GROUPS}
size_totals = {size: sum(every[group][size] for group in GROUPS) for size in SIZE_GROUPS}
most, least = max(group_totals, key=group_totals.get), min(group_totals, key=group_totals.get)
Markdown(
    f"There are {group_totals[most] / group_totals[least]:.1f} times as many {most} as {least} signs, "
    f"but only {max(size_totals.values()) / min(size_totals.values()):.2f} times as many of the most as of the least frequent size."
)

# %% [markdown]
# ## All images
#
# {numref}`fig-2-2` and {numref}`fig-2-3` show the published data beside this page's, which are drawn with the same frequencies and are far fewer.

# %% tags=["hide-input"]
titles = ("Real data (GTSDB)", f"This page ({kind})")


def both(theirs: dict, image_ids: list[int]) -> dict:
    """Signs by group and size in a part of the published data and of this page's."""
    return dict(zip(titles, (theirs["signs"], dataset.counts(image_ids)), strict=True))


# %% mystnb={"figure": {"name": "fig-2-2", "caption": "All signs by group. Left the published data, right this page's."}, "image": {"alt": "Two bar charts with a bar for each of the four sign groups. In both, prohibitory signs are the most frequent by far and mandatory signs the rarest."}}
figures.histogram_by_group(both(real["all"]["all"], dataset.image_ids))

# %% [markdown]
# Sizes go by the width of the box: small below 32 pixels, medium from 32 to 45, large above.

# %% mystnb={"figure": {"name": "fig-2-3", "caption": "All signs by size. Left the published data, right this page's."}, "image": {"alt": "Two bar charts with a bar for small, medium and large signs; in each the three bars are of similar height."}}
figures.histogram_by_size(both(real["all"]["all"], dataset.image_ids))

# %% [markdown]
# ## The split
#
# The report draws 20 % of the images at random for testing. The competition has its own split, images 0 to 599 and 600 to 899, on which published figures rest; `split="official"` chooses it. {numref}`fig-2-4` to {numref}`fig-2-7` show a random split of the report's kind (which images it drew is not known), of the published data and of this page's. Small parts differ from the whole by chance.

# %% mystnb={"figure": {"name": "fig-2-4", "caption": "Training signs by group, after a random split. Left the published data, right this page's."}, "image": {"alt": "Two bar charts of the training signs by group. As for all signs, prohibitory is the tallest bar and mandatory the lowest."}}
figures.histogram_by_group(both(real["random"]["train"], split["train"]))

# %% mystnb={"figure": {"name": "fig-2-5", "caption": "Training signs by size, after a random split. Left the published data, right this page's."}, "image": {"alt": "Two bar charts of the training signs by size, with one bar for small, medium and large each, of similar height."}}
figures.histogram_by_size(both(real["random"]["train"], split["train"]))

# %% mystnb={"figure": {"name": "fig-2-6", "caption": "Test signs by group, after a random split. Left the published data, right this page's."}, "image": {"alt": "Two bar charts of the test signs by group, with far fewer signs than for training; prohibitory is again the tallest bar."}}
figures.histogram_by_group(both(real["random"]["test"], split["test"]))

# %% mystnb={"figure": {"name": "fig-2-7", "caption": "Test signs by size, after a random split. Left the published data, right this page's."}, "image": {"alt": "Two bar charts of the test signs by size, with far fewer signs than for training; the three bars are less alike than there."}}
figures.histogram_by_size(both(real["random"]["test"], split["test"]))

# %% tags=["hide-input"]
parts = {part: dataset.part_counts(ids) for part, ids in split.items() if ids}
table([f"this page ({kind})", *header], [row(part, own) for part, own in parts.items()])

# %% tags=["hide-input"]
widths = np.concatenate([boxes[:, 2] - boxes[:, 0] for boxes in dataset.boxes_xyxy])
height, width = dataset.image_sizes[0]
Markdown(
    f"The median sign of this page is {np.median(widths):.0f} pixels wide, in images that are {width} wide: "
    f"{np.median(widths) / width:.1%} of the width."
)

# %% [markdown]
# ## What this section showed
#
# In the real data groups are unbalanced, and sizes hardly are. Signs are small beside their pictures, which decides how a detector must look at them.
