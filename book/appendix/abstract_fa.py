# %% [markdown]
# # چکیدهٔ فارسی
#
# [![Open in Colab](../_static/colab.svg)](https://colab.research.google.com/)
#
# The abstract in Persian, the language of the report that this book repeats. Its numbers are computed from the records, or published.

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
import json
from functools import partial
from pathlib import Path

from IPython.display import HTML

import beyond
from hw3 import records
from hw3.detection import ap
from hw3.segmentation.metrics import scores
from hw3.tables import over_seeds

RUNS = Path("../runs")
published = json.loads(Path("../published.json").read_text())
report, signs = published["original_report"], published["original_report"]["detection"]
volumes, experts, lower = published["segmentation"][:3]
by_report, by_slice = (records.load(RUNS / f"lgg-{own}.json") for own in ("report", "slice"))
frcnn, ssd, official = (
    records.load_seeds(RUNS, f"gtsdb-{own}")
    for own in ("frcnn-random", "ssd-random", "frcnn-official")
)

# %%
DIGITS = str.maketrans("0123456789.", "۰۱۲۳۴۵۶۷۸۹٫")
unseen = scores(beyond.counts(beyond.folds(RUNS)), batch_size=20)
matches = [ap.match(run.evidence["truths"], run.evidence["detections"]) for run in official]
three = ap.pooled(matches, partial(ap.mean_average_precision, labels=(1, 2, 3)))
prohibitory, mandatory, danger = (
    ap.pooled(matches, rule)[0] for rule in ap.STATISTICS["competition"].values()
)


def batch_mean(run: records.RunRecord) -> float:
    """Dice on validation slices, as a mean over batches of 20."""
    return scores(beyond.counts([run], ["validation"]), batch_size=20)["dice_batch_mean"]


def number(value: float, digits: int = 3) -> str:
    """A number in Persian digits, with the Persian decimal sign."""
    return f"{value:.{digits}f}".translate(DIGITS)


def with_range(value: float, interval: list[float]) -> str:
    """A score and, in brackets, its 95 % interval."""
    low, high = map(number, interval)
    return f"{number(value)} (بازهٔ ۹۵ درصد: از {low} تا {high})"


# %% tags=["hide-input"]
HTML(
    f"""<div dir="rtl" lang="fa">
<p>این کتاب گزارش تمرین سوم درس «شبکه‌های عصبی و یادگیری عمیق» دانشگاه تهران را بخش به بخش و شکل
به شکل از نو می‌سازد، اشتباه‌هایش را تصحیح می‌کند و آن را با دادهٔ واقعی می‌سنجد.</p>

<p><strong>تومورها.</strong> یک <bdi>U-Net</bdi> که رمزگذار آن <bdi>VGG16</bdi> منجمد است، گلیوماهای درجهٔ پایین
را در برش‌های <bdi>MRI</bdi> مجموعهٔ <bdi>LGG</bdi> مشخص می‌کند. در اعتبارسنجی پنج‌بخشی، هر یک از
{number(unseen["patients"], 0)} بیمار یک بار با شبکه‌ای سنجیده می‌شود که هیچ برشی از او ندیده است؛ میانگین ضریب دایس بیماران
{with_range(unseen["dice_patient_mean"], unseen["dice_patient_mean_interval"])} است. این عدد چند صدم کمتر از میانگین‌هایی است که برای
بیماران دیده‌نشده، با اعتبارسنجی متقابل، منتشر شده‌اند ({number(lower["dice"])} و {number(volumes["dice"])})، و از توافق دو متخصص با یکدیگر
({number(experts["dice"], 2)}). اگر داده‌ها مانند گزارش
برش به برش تقسیم شوند، برش‌های دیگرِ همان بیماران در آموزش بوده‌اند و نتیجه، روی همان برش‌ها، حدود چهار صدم بهتر از واقع دیده می‌شود. روی دادهٔ اعتبارسنجی،
با میانگین دسته‌ها، تنظیم‌های گزارش در یک اجرا {number(batch_mean(by_report))} و تنظیم‌های ما، با قطعه‌های بزرگ‌تر،
{number(batch_mean(by_slice))} می‌دهند؛ عدد خود گزارش
{number(report["segmentation"]["validation"]["dice"])} است.</p>

<p><strong>تابلوها.</strong> دو آشکارساز، <bdi>Faster R-CNN</bdi> دومرحله‌ای و <bdi>SSD300</bdi> تک‌مرحله‌ای، تابلوهای
راهنمایی را در عکس‌های مجموعهٔ <bdi>GTSDB</bdi> پیدا می‌کنند. روی {number(len(frcnn), 0)} تقسیم تصادفی، مانند تقسیم گزارش،
میانگین دقت (<bdi>AP</bdi>) در آستانهٔ <bdi>IoU</bdi> برابر {number(signs["iou_threshold"], 1)} برای
<bdi>Faster R-CNN</bdi> {with_range(*over_seeds(frcnn, "ap50")[""])} و برای <bdi>SSD300</bdi>
{with_range(*over_seeds(ssd, "ap50")[""])} است؛ پس دومرحله‌ای کمی جلوتر است. عددهای گزارش، پس از آن‌که خودش کلاس پس‌زمینه
را از میانگین کنار گذاشته است، حدود {number(signs["two_stage"]["corrected_over_4_classes"], 2)} و
{number(signs["one_stage"]["corrected_over_4_classes"], 2)} هستند؛ شبکه‌ها، آغاز آموزش و شیوهٔ آن در این‌جا با گزارش فرق
دارند. روی تقسیم رسمی و سه گروه، <bdi>Faster R-CNN</bdi> به {with_range(*three)} می‌رسد و بهترین عددِ یک
مقایسهٔ منتشرشدهٔ شبکه‌های ژرف، به همین روش، {number(published["detection"][0]["map50"])} است. با قاعدهٔ مسابقهٔ خود این مجموعه، برای تابلوهای ممنوعیت، الزام و
خطر {number(prohibitory)}، {number(mandatory)} و {number(danger)} به دست می‌آید؛ برندگان مسابقه در سال ۲۰۱۳ در هر سه به ۱
رسیده‌اند و به‌ویژه در تابلوهای الزام هنوز جلوترند. تنظیم‌های آشکارسازها با نگاه به عکس‌های آزمون رسمی شکل گرفته‌اند.</p>

<p>امتیازهای دادهٔ واقعی از پروندهٔ ثبت‌شدهٔ اجراها می‌آیند، و هر جا داده شبیه‌سازی شده باشد این
نکته گفته شده است. این مدل‌ها برای آموختن‌اند، نه برای تشخیص پزشکی و نه برای رانندگی.</p>
</div>"""
)
