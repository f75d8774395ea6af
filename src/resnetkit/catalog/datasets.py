"""Data sets that are known by name: frozen rows with where they come from and what no file of theirs says.

Sizes and SHA-256 are those that TensorFlow Datasets records for the same files; MedMNIST publishes MD5s and no sizes.
A row whose `classes` are empty finds their names in its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Layout = Literal["digits", "cifar10", "cifar100", "idx", "npz", "folders", "pets", "flowers"]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file to be downloaded; one of the hashes is known."""

    url: str
    size: int | None = None
    """bytes"""
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True, kw_only=True)
class KnownDataSet:
    """Facts about a data set. `flip` says whether an image's mirror image is of the same class."""

    classes: tuple[str, ...] = ()
    channels: Literal[1, 3]
    size: int | None
    """side of the square images in pixels, None where sizes vary"""
    flip: bool = True
    licence: str
    source: str
    """the paper or page that describes it"""
    layout: Layout
    files: tuple[RemoteFile, ...] = ()
    """none where it comes with an installed package"""


_CIFAR = "https://www.cs.toronto.edu/~kriz"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
_IMAGENET_TERMS = "ImageNet's terms (research and teaching, not for sale)"


def _medmnist(
    name: str, md5: str, channels: Literal[1, 3], *classes: str, flip: bool = True, licence: str = "CC BY 4.0"
) -> KnownDataSet:
    return KnownDataSet(
        classes=classes, channels=channels, size=28, flip=flip, licence=licence, layout="npz",
        source="Yang et al. 2021, MedMNIST v2 (arXiv 2110.14795)",
        files=(RemoteFile(url=f"https://zenodo.org/record/6496656/files/{name}.npz?download=1", md5=md5),),
    )  # fmt: skip


_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
    "lung-right", "pancreas", "spleen",
)  # fmt: skip

DATASETS: Mapping[str, KnownDataSet] = {
    "digits": KnownDataSet(
        classes=tuple("0123456789"), channels=1, size=8, flip=False, licence="CC BY 4.0", layout="digits",
        source="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), as shipped by scikit-learn",
    ),
    "cifar10": KnownDataSet(
        channels=3, size=32, licence="none stated", layout="cifar10",
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        files=(
            RemoteFile(
                url=f"{_CIFAR}/cifar-10-binary.tar.gz", size=170_052_171,
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
    "cifar100": KnownDataSet(
        channels=3, size=32, licence="none stated", layout="cifar100",
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        files=(
            RemoteFile(
                url=f"{_CIFAR}/cifar-100-binary.tar.gz", size=168_513_733,
                sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
    ),
    "fashion-mnist": KnownDataSet(
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        channels=1, size=28, licence="MIT", layout="idx", source="Xiao et al. 2017 (arXiv 1708.07747)",
        files=(
            RemoteFile(
                url=f"{_FASHION}/train-images-idx3-ubyte.gz", size=26_421_880,
                sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            RemoteFile(
                url=f"{_FASHION}/train-labels-idx1-ubyte.gz", size=29_515,
                sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            RemoteFile(
                url=f"{_FASHION}/t10k-images-idx3-ubyte.gz", size=4_422_102,
                sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            RemoteFile(
                url=f"{_FASHION}/t10k-labels-idx1-ubyte.gz", size=5_148,
                sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "imagenette": KnownDataSet(
        channels=3, size=None, licence=_IMAGENET_TERMS, layout="folders",
        source="Howard 2019, github.com/fastai/imagenette: ten easy classes of ImageNet, short side 320 pixels",
        files=(
            RemoteFile(
                url=f"{_FASTAI}/imagenette2-320.tgz", size=341_553_947,
                sha256="5020a9130cea0348272823cb12d2db7e981c6f2afa3dce71ccd5b8013005c55e",
            ),
        ),
    ),
    "imagewoof": KnownDataSet(
        channels=3, size=None, licence=_IMAGENET_TERMS, layout="folders",
        source="Howard 2019, github.com/fastai/imagenette: ten breeds of dogs of ImageNet, short side 320 pixels",
        files=(
            RemoteFile(
                url=f"{_FASTAI}/imagewoof2-320.tgz", size=328_288_506,
                sha256="4e4905ed7643120daaf9bf3b2ef7f3a7e8396d9bdaf254a38c6f01f618b4973d",
            ),
        ),
    ),
    "oxford-pets": KnownDataSet(
        channels=3, size=None, licence="CC BY-SA 4.0", layout="pets",
        source="Parkhi et al. 2012, Cats and Dogs (CVPR)",
        files=(
            RemoteFile(
                url=f"{_OXFORD}/pets/data/images.tar.gz", size=791_918_971,
                sha256="67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            ),
            RemoteFile(
                url=f"{_OXFORD}/pets/data/annotations.tar.gz", size=19_173_078,
                sha256="52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            ),
        ),
    ),
    "flowers102": KnownDataSet(
        classes=tuple(
            files("resnetkit.catalog").joinpath("flowers102.txt").read_text(encoding="utf-8").splitlines()
        ),
        channels=3, size=None, licence="none stated", layout="flowers",
        source="Nilsback and Zisserman 2008, Automated Flower Classification over a Large Number of Classes (ICVGIP)",
        files=(
            RemoteFile(
                url=f"{_OXFORD}/flowers/102/102flowers.tgz", size=344_862_509,
                sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
            ),
            RemoteFile(
                url=f"{_OXFORD}/flowers/102/imagelabels.mat", size=502,
                sha256="4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
            ),
            RemoteFile(
                url=f"{_OXFORD}/flowers/102/setid.mat", size=14_989,
                sha256="46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
            ),
        ),
    ),
    "pathmnist": _medmnist(
        "pathmnist", "a8b06965200029087d5bd730944a56c1", 3, "adipose", "background", "debris", "lymphocytes", "mucus",
        "smooth muscle", "normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": _medmnist(
        "chestmnist", "02c8a6516a18b556561a56cbdd36c4a8", 1, "atelectasis", "cardiomegaly", "effusion", "infiltration",
        "mass", "nodule", "pneumonia", "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural",
        "hernia",
    ),
    "dermamnist": _medmnist(
        "dermamnist", "0744692d530f8e62ec473284d019b0c7", 3, "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma", "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi",
        "vascular lesions", licence="CC BY-NC 4.0",
    ),
    "octmnist": _medmnist(
        "octmnist", "c68d92d5b585d8d81f7112f81e2d0842", 1, "choroidal neovascularization", "diabetic macular edema",
        "drusen", "normal",
    ),
    "pneumoniamnist": _medmnist("pneumoniamnist", "28209eda62fecd6e6a2d98b1501bb15f", 1, "normal", "pneumonia"),
    "retinamnist": _medmnist("retinamnist", "bd4c0672f1bba3e3a89f0e4e876791e4", 3, "0", "1", "2", "3", "4"),
    "breastmnist": _medmnist(
        "breastmnist", "750601b1f35ba3300ea97c75c52ff8f6", 1, "malignant", "normal, benign",
    ),
    "bloodmnist": _medmnist(
        "bloodmnist", "7053d0359d879ad8a5505303e11de1dc", 3, "basophil", "eosinophil", "erythroblast",
        "immature granulocytes", "lymphocyte", "monocyte", "neutrophil", "platelet",
    ),
    "tissuemnist": _medmnist(
        "tissuemnist", "ebe78ee8b05294063de985d821c1c34b", 1, "Collecting Duct, Connecting Tubule",
        "Distal Convoluted Tubule", "Glomerular endothelial cells", "Interstitial endothelial cells", "Leukocytes",
        "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb",
    ),
    # Left and right are classes of their own here.
    "organamnist": _medmnist("organamnist", "866b832ed4eeba67bfb9edee1d5544e6", 1, *_ORGANS, flip=False),
    "organcmnist": _medmnist("organcmnist", "0afa5834fb105f7705a7d93372119a21", 1, *_ORGANS, flip=False),
    "organsmnist": _medmnist("organsmnist", "e5c39f1af030238290b9557d9503af9d", 1, *_ORGANS, flip=False),
}  # fmt: skip
