# %% [markdown]
# # Comparison
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section sets the two detectors side by side and tests the report's three claims.
# Each claim gets an interval from resampled images, and may turn out undecided.

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
import json
from pathlib import Path

from hw3 import profiles, records
from hw3.detection import comparison, experiment
from hw3.tables import environment, provenance, score, table

profile = profiles.active()
dataset, kind = experiment.prepare(profile)
folder = profiles.runs_folder()
two_stage, _ = experiment.run(
    profile.faster_rcnn, dataset, kind=kind, name="faster-rcnn", folder=folder
)
one_stage, _ = experiment.run(profile.ssd300, dataset, kind=kind, name="ssd300", folder=folder)
real_two = records.load("../runs/gtsdb-frcnn-first-run.json")
environment(profile)

# %% [markdown]
# ## One table
#
# The report fine-tuned from COCO weights, on a random split. Our run on the real photographs starts from ImageNet weights and is tested on the competition's own images; a second one, of SSD300, is not recorded yet. This page's runs train small networks on simulated roads: they show how a comparison is made, and say nothing about which detector is better on real roads. Times are on the hardware named below the table, which the real run shared with other work, and real images are larger than simulated ones.

# %% tags=["hide-input"]
report = json.loads(Path("../published.json").read_text())["original_report"]["detection"]
runs = {
    "two-stage, real data": real_two,
    f"two-stage, this page ({kind})": two_stage,
    f"one-stage, this page ({kind})": one_stage,
}
rows = [
    [
        f"{name.replace('_', '-')}, report (corrected)",
        report[name]["corrected_over_4_classes"],
        None,
        None,
        None,
        None,
    ]
    for name in ("two_stage", "one_stage")
]
rows += [
    [
        title,
        score(record.results, "ap50"),
        score(record.results, "ap"),
        record.seconds_per_image,
        comparison.parameters(record),
        f"{record.seconds_training / 60:.1f}",
    ]
    for title, record in runs.items()
]
table(
    [
        "detector",
        "AP at IoU 0.5",
        "AP 0.50 to 0.95",
        "seconds an image",
        "parameters",
        "minutes of training",
    ],
    rows,
)

# %% tags=["hide-input"]
provenance(real_two)

# %% tags=["hide-input"]
provenance(two_stage)

# %% tags=["hide-input"]
provenance(one_stage)

# %% [markdown]
# ## The report's three claims
#
# The report concludes that two stages are better, that the two-stage detector is nearly independent of size, and that the one-stage detector finds small and large signs less often than medium ones. Each claim becomes a difference of AP at IoU 0.5. The interval comes from drawing the same test images again and again, with replacement, for both sides of the difference. If it includes 0, these data do not decide.

# %% tags=["hide-input"]
table(
    ["claim", "difference of", "real data", "verdict", f"this page ({kind})", "verdict"],
    comparison.claims([(real_two, None), (two_stage, one_stage)]),
)

# %% [markdown]
# ## What this section showed
#
# A difference between two detectors means something only beside its interval. The verdicts above are of single runs: how much they vary over seeds is another question, and these intervals do not answer it.
