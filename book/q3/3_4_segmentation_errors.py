# %% [markdown]
# # Where the segmenter errs
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section asks which tumours the U-Net outlines badly, and how badly.
# It looks at the size of the tumour, the distance between outlines, the probabilities, and at what averaging over symmetries adds.

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

# %%
import numpy as np

from hw3 import profiles, records
from hw3.segmentation import errors, experiment, figures
from hw3.segmentation.metrics import SliceCounts
from hw3.tables import Markdown, environment, provenance, table, with_interval

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
ours, model = experiment.run(
    profile.segmentation, dataset, kind=kind, name="unet", folder=profiles.runs_folder()
)
real = records.load("../runs/lgg-slice.json")
environment(profile)

# %% tags=["hide-input"]
Markdown(f"- {provenance(real)}\n- {provenance(ours)}")

# %% [markdown]
# ## Small tumours
#
# The record of the real run holds the counts of every test slice, so that Dice can be set against the size of the tumour without the images. The line joins the means of five equal parts of the slices, from the smallest tumours to the largest.

# %% mystnb={"figure": {"name": "fig-3-6", "caption": "Dice of each test slice with tumour against the tumour's area, and the means of five equal parts. Left the real data, from a record; right this page's run."}, "image": {"alt": "Two clouds of points over a logarithmic axis of areas, each with a line of five means. The line starts low at the smallest tumours and is high for the larger ones; in the real data many small tumours lie at 0."}}
titles = ("Real data (LGG)", f"This page ({kind})")
counts = {
    title: SliceCounts.from_evidence(record.evidence["test"], record.evidence["pixels_per_slice"])
    for title, record in zip(titles, (real, ours), strict=True)
}
figures.dice_by_size(counts)

# %% tags=["hide-input"]
sentences = []
for title, own in counts.items():
    areas, scores = errors.areas_and_dice(own)
    small, large = np.array_split(scores, 5)[0], np.array_split(scores, 5)[-1]
    sentences.append(
        f"{title}: in the fifth of the {len(areas)} slices with the smallest tumours (up to "
        f"{np.array_split(areas, 5)[0][-1]} pixels) the mean Dice is {small.mean():.2f}, and "
        f"{np.mean(small == 0):.0%} of them are missed; in the fifth with the largest it is {large.mean():.2f}."
    )
Markdown("\n".join(f"- {sentence}" for sentence in sentences))

# %% [markdown]
# ## Outlines
#
# Dice counts pixels and does not say how far a wrong outline is from the right one. Two measures do. The 95 % Hausdorff distance is nearly the largest distance from one outline to the other. The surface Dice {cite}`nikolov2021` is the share of both outlines that lies within a tolerance of the other. Both need the masks themselves, which records do not hold: from here on, the page's own test slices are examined.

# %%
tolerance = 2.0
tested = counts[titles[1]]
names = {
    f"{patient}_{number}"
    for patient, number in zip(tested.patient_ids, tested.slice_indices, strict=True)
}
test = np.array([index for index in range(len(dataset)) if dataset.slice_id(index) in names])
examined = errors.examine(model, dataset, test, tolerance=tolerance)

# %% mystnb={"figure": {"name": "fig-3-7", "caption": "Of the test slices with a true and a predicted mask: the share whose 95 % Hausdorff distance (left) or surface Dice (right) is at most the value on the axis. Simulated data, unless this page was run on the real set."}, "image": {"alt": "Two rising step curves. Most Hausdorff distances are a small part of the largest, with a long tail to the right; the surface Dice spreads widely. A dotted line marks each median."}}
both = [own for own in examined["slices"] if own["hausdorff_95"] is not None]
hausdorff, surface = (
    np.array([own[name] for own in both]) for name in ("hausdorff_95", "surface_dice")
)
figures.distances({titles[1]: (hausdorff, surface)}, tolerance)

# %% tags=["hide-input"]
Markdown(
    f"Half of these {len(both)} slices have a distance of at most {np.median(hausdorff):.1f} pixels, and a surface Dice of "
    f"at least {np.median(surface):.2f}."
)

# %% [markdown]
# ## Probabilities
#
# Of all pixels with a predicted probability near 0.7, seven tenths should be tumour. A Dice loss does not ask for that: it rewards an outline, not a probability.

# %% mystnb={"figure": {"name": "fig-3-8", "caption": "Left: predicted probability against the share of pixels that are tumour, in ten bins. Right: pixels in each bin. Simulated data, unless this page was run on the real set."}, "image": {"alt": "On the left, points of ten bins: above the dotted diagonal of perfect calibration at low probabilities, near or below it at high ones. On the right, bars on a logarithmic axis: nearly all pixels lie in the lowest bin, most of the others in the highest."}}
figures.calibration({titles[1]: examined["bins"]})

# %% tags=["hide-input"]
bins = {name: np.array(own) for name, own in examined["bins"].items()}
unsure = bins["pixels"][1:-1].sum() / bins["pixels"][1:].sum()
Markdown(
    f"The expected calibration error {{cite}}`guo2017` is {errors.calibration_error(examined['bins']):.4f}; it is small "
    f"because most pixels are background that nobody would doubt. Of the pixels above a probability of 0.1, "
    f"{unsure:.0%} lie between 0.1 and 0.9. In the highest bin the mean probability is "
    f"{bins['probability'][-1] / bins['pixels'][-1]:.2f}, and {bins['tumour'][-1] / bins['pixels'][-1]:.2f} of the pixels are tumour."
)

# %% [markdown]
# ## Eight looks instead of one
#
# A slice can be turned and mirrored in eight ways. Averaging the eight predictions costs eight times as much. What does it add?

# %% tags=["hide-input"]
gain, interval = errors.averaging_gain(examined["slices"])
verdict = (
    "helps"
    if interval[0] > 0
    else "harms"
    if interval[1] < 0
    else "is not shown to change anything"
)
table(
    [
        "test slices",
        "patients",
        "pooled Dice: eight looks − one, with a 95 % interval over patients",
    ],
    [
        [
            len(examined["slices"]),
            len({own["patient_id"] for own in examined["slices"]}),
            with_interval(gain, interval, "+.4f"),
        ]
    ],
)

# %% tags=["hide-input"]
Markdown(f"On these slices averaging **{verdict}**.")

# %% [markdown]
# ## What this section showed
#
# Small tumours decide how good a segmentation looks: the same few wrong pixels that a large tumour does not notice cost a small one everything. A mean over slices depends on how many small tumours there are; that is why this book pools counts, and gives the mean over patients beside it. Distances, probabilities and the gain of averaging are those of this page's own network on simulated slices.
