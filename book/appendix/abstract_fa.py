# %% [markdown]
# # چکیدهٔ فارسی
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# The abstract in Persian, the language of the report that this book repeats. Its numbers are taken from the records.

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
import json
from pathlib import Path

from IPython.display import HTML

from hw3 import records

report = json.loads(Path("../published.json").read_text())["original_report"]
unet, unseen, as_reported = (
    records.load(f"../runs/lgg-{name}-gpu.json") for name in ("slice", "patient", "report")
)
faster_rcnn = records.load("../runs/gtsdb-frcnn.json")
ssd300 = records.load("../runs/gtsdb-ssd-tiles.json")
longer = [records.load(f"../runs/gtsdb-{name}-long.json") for name in ("frcnn", "ssd")]


def number(value: float, digits: int = 3) -> str:
    """A number in Persian digits, with the Persian decimal sign."""
    return f"{value:.{digits}f}".translate(str.maketrans("0123456789.", "۰۱۲۳۴۵۶۷۸۹٫"))


def with_interval(results: dict, name: str) -> str:
    """A score and, in brackets, its 95 % interval."""
    low, high = results[f"{name}_interval"]
    return f"{number(results[name])} (بازهٔ ۹۵ درصد: از {number(low)} تا {number(high)})"


detection = report["detection"]
HTML(
    f"""<div dir="rtl" lang="fa">
<p>این کتاب گزارش تمرین سوم درس «شبکه‌های عصبی و یادگیری عمیق» دانشگاه تهران را بخش به بخش و شکل
به شکل از نو می‌سازد، اشتباه‌هایش را تصحیح می‌کند و ادعاهایش را با دادهٔ واقعی می‌آزماید.</p>

<p><strong>پرسش یکم.</strong> یک <bdi>U-Net</bdi> که رمزگذار آن <bdi>VGG16</bdi> منجمد است، گلیوماهای درجهٔ پایین را
در تصویرهای <bdi>MRI</bdi> مجموعهٔ <bdi>LGG</bdi> مشخص می‌کند. داده‌ها برش به برش تقسیم شده‌اند و این تقسیم نتیجه را بهتر از واقع نشان می‌دهد. با تنظیم‌های خود گزارش، روی یک پردازندهٔ
گرافیکی، ضریب دایس روی دادهٔ اعتبارسنجی (میانگین دسته‌ها) {number(as_reported.results["validation"]["dice_batch_mean"])} است و
گزارش اصلی به {number(report["segmentation"]["validation"]["dice"])} رسیده است. با تنظیم‌های ما، روی همان پردازنده، این ضریب روی
دادهٔ اعتبارسنجی {number(unet.results["validation"]["dice_batch_mean"])} و روی دادهٔ آزمون، روی همهٔ پیکسل‌ها،
{with_interval(unet.results["test"], "dice")} است. وقتی همهٔ برش‌های هر بیمار یک‌جا کنار گذاشته شود،
میانگین ضریب دایس بیماران آزمون {with_interval(unseen.results["test"], "dice_patient_mean")} است.</p>

<p><strong>پرسش دوم.</strong> دو آشکارساز، <bdi>Faster R-CNN</bdi> دومرحله‌ای و <bdi>SSD300</bdi> تک‌مرحله‌ای، تابلوهای
راهنمایی را در عکس‌های مجموعهٔ <bdi>GTSDB</bdi> پیدا می‌کنند. میانگین دقت (<bdi>AP</bdi>) در آستانهٔ <bdi>IoU</bdi> برابر
{number(detection["iou_threshold"], 1)}، روی {number(len(ssd300.data["split"]["test"]), 0)} عکس آزمون رسمی، برای
<bdi>Faster R-CNN</bdi> {with_interval(faster_rcnn.results, "ap50")} و برای <bdi>SSD300</bdi>
{with_interval(ssd300.results, "ap50")} است. با آموزش طولانی‌تر، از بذری دیگر، این دو به
{with_interval(longer[0].results, "ap50")} و {with_interval(longer[1].results, "ap50")} می‌رسند. عددهای گزارش اصلی، پس از کنار گذاشتن کلاس پس‌زمینه از
میانگین، {number(detection["two_stage"]["corrected_over_4_classes"])} و
{number(detection["one_stage"]["corrected_over_4_classes"])} هستند. این عددها را نمی‌توان یک‌به‌یک با عددهای ما سنجید: گزارش عکس‌های آزمون دیگری
داشته و شبکه‌هایش بزرگ‌تر بوده‌اند؛ آموزش در این‌جا از جاده‌های شبیه‌سازی‌شده آغاز شده است؛ و تنظیم‌ها پس از شمردن
خطاهای اجراهای پیشین روی همین عکس‌های آزمون عوض شده‌اند، که نتیجه را کمی بهتر از واقع نشان می‌دهد.</p>

<p>نتیجه‌های عددی این کتاب از پروندهٔ ثبت‌شدهٔ یک اجرا یا از خانهٔ کد بالای آن می‌آیند، و هر جا داده شبیه‌سازی
شده است این نکته گفته شده است. این مدل‌ها برای آموختن‌اند، نه برای تشخیص پزشکی و نه برای رانندگی.</p>
</div>"""
)
