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

# %% tags=["hide-input"]
from pathlib import Path

import numpy as np

from hw3 import profiles, records
from hw3.segmentation import errors, experiment, figures, metrics
from hw3.segmentation.metrics import SliceCounts
from hw3.tables import Markdown, environment, score, sources, table, with_interval

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
ours, model = experiment.run(
    profile.segmentation, dataset, kind=kind, name="unet", folder=profiles.runs_folder()
)
real = records.load("../runs/lgg-slice.json")
environment(profile)

# %% tags=["hide-input"]
sources({"real data": real, "this page": ours})

# %% [markdown]
# ## Small tumours
#
# The record of the real run holds the counts of every test slice, so that Dice can be set against the size of the tumour without the images. The line joins the means of five equal parts of the slices, from the smallest tumours to the largest.

# %% mystnb={"figure": {"name": "fig-3-6", "caption": "Dice of each test slice with tumour against the tumour's area, and the means of five equal parts. Left the real data, from a record; right this page's run."}, "image": {"alt": "Two clouds of points over a logarithmic axis of areas, each with a line of five means. The line starts low at the smallest tumours and is high for the larger ones; in the real data a few small tumours lie at 0."}}
titles = ("Real data (LGG)", f"This page ({kind})")
counts = {
    title: SliceCounts.from_evidence(record.evidence["test"], record.evidence["pixels_per_slice"])
    for title, record in zip(titles, (real, ours), strict=True)
}
figures.dice_by_size(counts)

# %% tags=["hide-input"]
sentences = []
for title, own in counts.items():
    areas, dices = errors.areas_and_dice(own)
    small, large = np.array_split(dices, 5)[0], np.array_split(dices, 5)[-1]
    sentences.append(
        f"{title}: in the fifth of the {len(areas)} slices with the smallest tumours (up to "
        f"{np.array_split(areas, 5)[0][-1]} pixels) the mean Dice is {small.mean():.2f}, and "
        f"{np.mean(small == 0):.0%} of them have no pixel in common with what is predicted; in the fifth with the largest it is {large.mean():.2f}."
    )
Markdown("\n".join(f"- {sentence}" for sentence in sentences))

# %% [markdown]
# ## Outlines
#
# Dice counts pixels and does not say how far a wrong outline is from the right one. Two measures do. The 95 % Hausdorff distance is nearly the largest distance from one outline to the other. The surface Dice {cite}`nikolov2021` is the share of both outlines that lies within a tolerance of the other. Both need the masks themselves, which records do not hold. So `tools/examine_slices.py` looked at the real slices once more, with the weights of the run, and kept what follows from here on; this page's own test slices are examined below in the same way.


# %%
tested = counts[titles[1]]
names = {
    f"{patient}_{number}"
    for patient, number in zip(tested.patient_ids, tested.slice_indices, strict=True)
}
test = np.array([index for index in range(len(dataset)) if dataset.slice_id(index) in names])
folder = Path("../examined")
validated = errors.read_examined(folder / "lgg-slice-validation.json")
tolerance = validated["tolerance"]
examined = {
    titles[0]: errors.read_examined(folder / "lgg-slice-test.json"),
    titles[1]: errors.examine(model, dataset, test, tolerance=tolerance),
}

# %% mystnb={"figure": {"name": "fig-3-7", "caption": "Of the test slices with a true and a predicted mask: the share whose 95 % Hausdorff distance (left) or surface Dice (right) is at most the value on the axis, for the real run and for this page's."}, "image": {"alt": "Two rising step curves in each panel. Most Hausdorff distances are a small part of the largest, with a long tail to the right; the surface Dice spreads widely. A dotted line marks each median."}}
measured = {}
for title, own in examined.items():
    both = [one for one in own["slices"] if one["hausdorff_95"] is not None]
    measured[title] = tuple(
        np.array([one[name] for one in both]) for name in ("hausdorff_95", "surface_dice")
    )
figures.distances(measured, tolerance)

# %% tags=["hide-input"]
Markdown(
    "\n".join(
        f"- {title}: half of the {len(hausdorff)} slices have a distance of at most {np.median(hausdorff):.1f} pixels, "
        f"and a surface Dice of at least {np.median(surface):.2f}; one in ten has a distance above "
        f"{np.quantile(hausdorff, 0.9):.0f} pixels."
        for title, (hausdorff, surface) in measured.items()
        if len(hausdorff)
    )
)

# %% [markdown]
# ## Probabilities
#
# Of all pixels with a predicted probability near 0.7, seven tenths should be tumour. A Dice loss does not ask for that: it rewards an outline, not a probability. The real run's loss has cross-entropy as well, which does.

# %% mystnb={"figure": {"name": "fig-3-8", "caption": "Left: predicted probability against the share of pixels that are tumour, in ten bins. Right: the share of all pixels in each bin. The real run's test slices and this page's."}, "image": {"alt": "On the left, ten points of each run against a dotted diagonal of perfect calibration: those of the real run lie below it from the fourth on, the last one least; those of this page above it at low probabilities and below it at high ones. On the right, two step lines on a logarithmic axis: nearly all pixels lie in the lowest bin, most of the others in the highest."}}
figures.calibration({title: own["bins"] for title, own in examined.items()})

# %% tags=["hide-input"]
sentences = []
for title, own in examined.items():
    bins = {name: np.array(values) for name, values in own["bins"].items()}
    unsure = bins["pixels"][1:-1].sum() / bins["pixels"][1:].sum()
    sentences.append(
        f"{title}: the expected calibration error {{cite}}`guo2017` is {errors.calibration_error(own['bins']):.4f}. "
        f"Of the pixels above a probability of 0.1, {unsure:.0%} lie between 0.1 and 0.9. In the highest bin the mean "
        f"probability is {bins['probability'][-1] / bins['pixels'][-1]:.2f}, and "
        f"{bins['tumour'][-1] / bins['pixels'][-1]:.2f} of the pixels are tumour; in the one before it, "
        f"{bins['probability'][-2] / bins['pixels'][-2]:.2f} and {bins['tumour'][-2] / bins['pixels'][-2]:.2f}."
    )
Markdown("\n".join(f"- {sentence}" for sentence in sentences))

# %% [markdown]
# The error is small because most pixels are background that nobody would doubt. Where the network is not sure, its probabilities are too high, those of the real run in spite of its cross-entropy. Why was not looked into.
#
# ## Eight looks instead of one
#
# A slice can be turned and mirrored in eight ways. Averaging the eight predictions costs eight times as much. What does it add?

# %% tags=["hide-input"]
looks = {
    "real data, validation": validated,
    "real data, test": examined[titles[0]],
    **{
        f"real data, run on a GPU, {title}, {part}": errors.read_examined(
            folder / f"lgg-{split}-gpu-scored-{part}.json"
        )
        for split, title in (("slice", "split by slice"), ("patient", "patients held out"))
        for part in ("validation", "test")
    },
    f"this page, {kind} data, test": examined[titles[1]],
}
rows, verdicts = [], []
for title, own in looks.items():
    gain, interval = errors.averaging_gain(own["slices"])
    once, averaged = (
        metrics.scores(errors.counts_of(own, number), batch_size=1)
        for number in ("plain", "averaged")
    )
    verdicts.append(
        f"{title}: averaging **"
        + (
            "helps"
            if interval[0] > 0
            else "harms"
            if interval[1] < 0
            else "is not shown to change anything"
        )
        + "**"
    )
    dices = [score(one, "dice") for one in (once, averaged)]
    others = [
        " → ".join(f"{one[key]:.{digits}f}" for one in (once, averaged))
        for key, digits in (("dice_patient_mean", 3), ("accuracy", 4))
    ]
    counted = f"{averaged['slices']} of {averaged['patients']} patients"
    rows.append([title, counted, *dices, with_interval(gain, interval, "+.4f"), *others])
table(
    [
        "slices",
        "number",
        "Dice, one look",
        "Dice, eight looks",
        "difference",
        "Dice, mean over patients",
        "accuracy",
    ],
    rows,
)

# %% tags=["hide-input"]
Markdown(
    "Dice is pooled where nothing else is said; the differences have 95 % intervals over patients. The averaging was decided on "
    f"the validation slices. The runs on a GPU were looked at again on the CPU ({{doc}}`../q1/1_6_training`). By data:\n\n{chr(10).join(f'- {verdict}.' for verdict in verdicts)}"
)

# %% [markdown]
# ## What this section showed
#
# Averaging eight looks helps nearly everywhere it was tried, on real slices and on simulated ones. Probabilities are too high on real slices but for the lowest, and should not be taken at their word. Small tumours decide how good a segmentation looks: the same few wrong pixels that a large tumour does not notice cost a small one everything. A mean over slices depends on how many small tumours there are; that is why this book pools counts, and gives the mean over patients beside it. In half of the real slices a fifth of the outline or more lies over two pixels off, and in one of ten a part lies far away: pooled Dice hides both.
