# %% [markdown]
# # How much faster does Winograd's method train?
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# This section asks how much of the machine's arithmetic training uses, and how it can use more.
# A method of 2016 makes three networks of full width train faster on a processor, with the same results.

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
import json
from pathlib import Path

from hw3 import records
from hw3.tables import Markdown, sources, table

measured = json.loads(Path("../training_rate.json").read_text())

# %% [markdown]
# ## Where the time goes
#
# Training these networks is convolving. On a processor torch makes them directly. Winograd's method {cite}`lavin2016` makes 16 outputs at once with a quarter of the multiplications, at the price of transforming inputs and outputs. The module `hw3.winograd` writes it as matrix products, forwards and backwards, which run on any processor. It takes the wide layers only (`hw3.winograd.CHANNELS` says how wide); in narrow ones the transforms cost more than they save.
#
# Training also keeps the memory of freed tensors, which the C library would give back to the system and ask for again a page at a time. Both columns below include this; its own effect was not measured.
#
# The last two columns set the operations of the direct method per second beside what a large matrix product reaches on the same machine. Above 100 % means that multiplications were saved.

# %% tags=["hide-input"]
rate = measured["gigaflop_per_second"]
table(
    [
        "training step",
        "10⁹ operations a picture",
        "seconds, direct",
        "seconds, Winograd",
        "rate beside a matrix product, direct",
        "Winograd",
    ],
    [
        [
            row["network"],
            f"{row['gigaflop']:.1f}",
            f"{row['direct']:.3f}",
            f"{row['winograd']:.3f}",
            *(f"{row['gigaflop'] / rate / row[way]:.0%}" for way in ("direct", "winograd")),
        ]
        for row in measured["networks"]
    ],
)

# %% tags=["hide-input"]
hardware, versions = measured["hardware"], measured["versions"]
gains = [row["direct"] / row["winograd"] for row in measured["networks"]]
Markdown(
    f"Median of {measured['steps']} steps of {measured['batch_size']} pictures, forwards and backwards, on random "
    f"pixels with random weights; {hardware['count']} threads of a {hardware['device']}, on which a product of two large "
    f"float32 matrices makes {rate:.0f} × 10⁹ operations a second; torch {versions['torch']}; commit "
    f"`{measured['commit'][:10]}`. Operations are those of the direct method. Winograd's makes a step {min(gains):.2f} to "
    f"{max(gains):.2f} times as fast."
)

# %% [markdown]
# ## Is it the same network?
#
# Yes, up to the rounding of float32. The tests compare outputs and all gradients with torch's own convolution. Weights trained in one way can be used in the other; nothing in a file says which it was. Under bfloat16, which some processors multiply twice as fast, and on a GPU, the layers are torch's own.
#
# ## A GPU
#
# The U-Net's real runs were on one core of a CPU and on a GPU; the runs of {doc}`../q1/1_6_training` stand here by their fastest epoch. A picture is a slice or a crop; larger ones cost more, so that pixels are counted as well.

# %% tags=["hide-input"]
runs = {
    "our recipe, CPU": records.load("../runs/lgg-slice.json"),
    "our recipe, GPU": records.load("../runs/lgg-slice-gpu.json"),
    "the report's recipe, GPU": records.load("../runs/lgg-report-gpu.json"),
}
fastest = {
    title: max(run.history, key=lambda epoch: epoch["samples"] / epoch["seconds"])
    for title, run in runs.items()
}
sides = {
    title: run.settings["crop_size"] or run.settings["image_size"] for title, run in runs.items()
}
megapixels = {
    title: epoch["samples"] * sides[title] ** 2 / epoch["seconds"] / 1e6
    for title, epoch in fastest.items()
}
table(
    [
        "run",
        "side of a picture",
        "pictures a second",
        "10⁶ pixels a second",
        "time waiting for data",
    ],
    [
        [
            title,
            sides[title],
            f"{epoch['samples'] / epoch['seconds']:,.0f}",
            f"{megapixels[title]:.2f}",
            f"{epoch['seconds_waiting'] / epoch['seconds']:.0%}",
        ]
        for title, epoch in fastest.items()
    ],
)

# %% tags=["hide-input"]
sources(runs)

# %% tags=["hide-input"]
cpu, gpu, _ = megapixels.values()
Markdown(
    f"On the GPU pixels pass {gpu / cpu:.0f} times as fast as on one core, though other runs shared it. What it waits for are processes "
    "on a CPU that cut and augment the next pictures; there were three of them for each run. By default there are now up to "
    "`hw3.training.WORKERS` beside a GPU, and none without: on a CPU they would take the cores that train."
)

# %% [markdown]
# ## What this section showed
#
# Computed by Winograd's method, wide convolutions take less time, and each of the networks above, all of full width, trains faster with the same results. What the narrower ones of this book gain was not timed. Native crops and a narrower network ({doc}`../q2/2_2_two_stage`) save time as well, but they train another network. A GPU trains the U-Net faster by far.
