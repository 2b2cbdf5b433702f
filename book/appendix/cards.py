# %% [markdown]
# # Data cards and model cards
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# Where do the data come from, what is wrong with them, and what may be done with them? And what are the trained models for, and what are they no good for?

# %% tags=["hide-input"]
# Set-up: gets the package on Google Colab; elsewhere it only goes to this notebook's folder.
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, is_zipfile

while "google.colab" in sys.modules and not Path("/content/hw3/colab.py").exists():
    from google.colab import files

    print("Choose hw3-colab.zip as `make colab` writes it; no other file will do.")
    for bundle in filter(is_zipfile, map(BytesIO, files.upload().values())):
        ZipFile(bundle).extractall("/content")
from hw3 import colab

colab.set_up("book/appendix")

# %% tags=["hide-input"]
from pathlib import Path

from hw3 import records
from hw3.settings import REPORT
from hw3.tables import score, sources, table

RUNS = Path("../runs")

# %% [markdown]
# ## The real data
#
# | | LGG {cite}`buda2019` | GTSDB {cite}`houben2013` |
# | :-- | :-- | :-- |
# | What it is | MRI slices of patients with lower-grade glioma, each with a mask drawn by hand of what is abnormal on FLAIR | photographs of German roads, with a box and one of 43 classes for each sign |
# | Where from | Kaggle, `mateuszbuda/lgg-mri-segmentation`; images of The Cancer Imaging Archive, five hospitals | the publisher's archive `FullIJCNN2013` |
# | A sample | 256 × 256 pixels; before contrast agent, FLAIR, after contrast agent | 1360 × 800 pixels, in colour |
# | Licence | CC BY-NC-SA 4.0 on some pages, CC BY 4.0 on others; treated as not ours to pass on | “free to use this data package for any purpose you like”, with a citation |
# | Copy used here | JPEG XL at distance 0.2, near-lossless; masks exact | JPEG XL at distance 1.3, made from JPEG copies: lossy twice, about 159 kB an image; boxes exact |
# | Faults | a second copy of all patients lies one level down in the archive; a missing sequence is replaced by FLAIR; one outline by hand is the truth | a repeated line in `gt.txt`; the `gt.txt` of the training images beside all images hides every test sign; a few places are photographed on both sides of the official split |
# | Not for | diagnosis | driving |
#
# What the loss of quality changes was not measured. The book shows no real picture. {doc}`../q1/1_2_data` and {doc}`../q2/2_1_data` count what the files hold.
# ## The simulated data
#
# Both are written in the publishers' layouts, so that one reader serves both, and are the same for the same seed. They show that the code works; a score on them says nothing about patients or roads.
#
# - **Brains** are warped copies of the ICBM152 atlas {cite}`fonov2011`, each with its own contrast, bias field, noise, and a lesion grown in white matter. The names of patients begin with `SIM`.
# - **Roads** are drawn: sky, houses, trees, poles, all 43 classes in their true shapes and colours, and other boards, which are not annotated. How often classes and sizes occur follows all of GTSDB, its test images included.
#
# {doc}`../q3/3_6_guesses` asks what they are worth to a network that then sees real data.
#
# ## The models
#
# | | U-Net | Faster R-CNN | SSD300 |
# | :-- | :-- | :-- | :-- |
# | Network | {doc}`../q1/1_1_model`: frozen VGG16, ImageNet weights; trained decoder | {doc}`../q2/2_2_two_stage`: VGG16 of quarter width, or ResNet50, with a feature pyramid | {doc}`../q2/2_3_one_stage`: VGG16 of quarter width, on native tiles |
# | Trained on | LGG | simulated roads, then GTSDB | simulated roads, then GTSDB |
# | Input | one slice, 8 bits a channel | one photograph, 8 bits a channel | the same, cut into tiles |
# | Output | tumour or not, a logit a pixel | boxes with a group and a score | boxes with a group and a score |
# | For | learning how segmentation is trained and scored | learning how detectors are trained and scored | the same |
# | No good for | diagnosis, treatment, or any decision about a person | driving, or assistance to a driver | the same |
# | Terms of its weights | CC BY-NC-SA 4.0, not for commercial use, since some pages of LGG ask for that | MIT, as the code | the same |
# | Known limits | no context from neighbouring slices; five hospitals; small tumours ({doc}`../q3/3_4_segmentation_errors`) | four groups, not single classes; one country; false alarms ({doc}`../q3/3_2_detector_errors`) | the same, and boxes that fit less well |
#
# Weights of one network of each kind come with the package, in half precision: of the first fold and the first seed, whatever their scores; the U-Net's without the encoder. {doc}`own_pictures` and `python -m hw3 predict` use them. How well they did in full precision, on the test part of their run:

# %%
shipped = [records.load(RUNS / f"{records.load(records.shipped(m)).name}.json") for m in REPORT]
rows = []
for run in shipped:
    detector = "ap50" in run.results
    found = run.results if detector else run.results["test"]
    what = "AP at IoU 0.5" if detector else "mean Dice over patients"
    cell = score(found, "ap50" if detector else "dice_patient_mean")
    rows.append([f"`{run.name}`", what, cell])
table(["record", "score", "real data"], rows)

# %% tags=["hide-input"]
sources({"weights in the package": shipped})
