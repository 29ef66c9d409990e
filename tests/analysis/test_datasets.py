"""Data sets: torchvision's real loaders on small files in the real format, and damage named."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch
from idx_files import write_idx
from PIL import Image

from analysis.lab.data.datasets import NAMES, load
from capacity import InputError


@pytest.fixture(autouse=True)
def offline(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def test_digits_are_the_real_ones_in_three_disjoint_splits() -> None:
    data = load("digits")
    assert (len(data.train), len(data.validation), len(data.test)) == (1293, 144, 360)
    assert data.input_size == (1, 8, 8) and data.classes == tuple("0123456789")
    assert data.train.inputs.dtype == torch.uint8 and data.train.inputs.max() == 255
    assert torch.bincount(data.test.labels).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]  # stratified
    again = load("digits")
    assert torch.equal(again.validation.inputs, data.validation.inputs)
    pixels = next(iter(data.train.batches(2000)))[0]
    assert abs(pixels.mean()) < 0.02 and abs(pixels.std() - 1) < 0.02


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_idx_files(tmp_path, name: str, folder: str) -> None:
    write_idx(tmp_path / folder / "raw")
    data = load(name, data=str(tmp_path), validation=0.25)
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 12)
    assert data.input_size == (1, 28, 28) and data.test.labels.tolist() == [k % 10 for k in range(12)]
    every = torch.cat([data.train.inputs, data.validation.inputs]).double() / 255
    assert data.train.mean[0] == pytest.approx(every.mean().item(), abs=1e-9)
    assert data.train.std[0] == pytest.approx(every.std(correction=0).item(), abs=1e-9)
    assert data.test.mean == data.train.mean


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_files(tmp_path, monkeypatch, name: str, classes: int) -> None:
    from torchvision import datasets

    maker = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = tmp_path / maker.base_folder
    folder.mkdir()

    def write(file: str, content: dict) -> list[str]:
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    pictures = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    key = "labels" if name == "cifar10" else "fine_labels"
    labels = {"data": pictures, key: [k % classes for k in range(10)]}
    monkeypatch.setattr(maker, "train_list", [write("train_part", labels)])
    monkeypatch.setattr(maker, "test_list", [write("test_part", labels)])
    names = {maker.meta["key"]: [f"class {k}" for k in range(classes)]}
    file, digest = write(maker.meta["filename"], names)
    monkeypatch.setattr(maker, "meta", maker.meta | {"filename": file, "md5": digest})
    data = load(name, data=str(tmp_path))
    assert data.input_size == (3, 32, 32) and len(data.classes) == classes
    assert np.array_equal(data.test.inputs[3].flatten().numpy(), pictures[3])


def write_folder(path, classes=("cat", "dog"), count=4, side=16) -> None:
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for number in range(count):
            colour = (200 * label, 40 * number, 90)
            Image.new("RGB", (side + 4 * (number % 2), side), colour).save(path / name / f"{number}.png")


def test_flowers_files(tmp_path, monkeypatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for number in range(1, 10):
        Image.new("RGB", (30 + number, 40), (20 * number, 0, 0)).save(
            folder / "jpg" / f"image_{number:05d}.jpg"
        )
    savemat(folder / "imagelabels.mat", {"labels": np.arange(1, 10)})
    savemat(folder / "setid.mat", {"trnid": [1, 2, 3], "valid": [4, 5, 6], "tstid": [7, 8, 9]})
    digests = {
        key: (file, hashlib.md5((folder / file).read_bytes()).hexdigest())
        for key, file in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(Flowers102, "_file_dict", Flowers102._file_dict | digests)
    data = load("flowers102", data=str(tmp_path), image_size=24)
    assert data.input_size == (3, 24, 24) and len(data.classes) == 102
    assert len(data.train) + len(data.validation) == 6 and data.test.labels.tolist() == [6, 7, 8]


def test_an_image_folder_of_one_s_own(tmp_path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", count=2)
    data = load(f"imagefolder:{tmp_path}", image_size=12)
    assert data.classes == ("cat", "dog") and data.input_size == (3, 12, 12)
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.test.inputs[:, 0].float().mean((1, 2)).round().tolist() == [0, 0, 200, 200]


def test_small_square_pictures_stay_as_they_are(tmp_path) -> None:
    for part in ("train", "test"):
        for number in range(6):
            (tmp_path / part / "ab"[number // 3]).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / "ab"[number // 3] / f"{number}.png")
    data = load(f"imagefolder:{tmp_path}")
    assert data.input_size == (3, 8, 8)
    assert np.array_equal(data.test.inputs[5].permute(1, 2, 0).numpy(), pixels)


def test_class_folders_that_differ_are_named(tmp_path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", classes=("cat", "dot"))
    with pytest.raises(InputError, match=r"only one of them: \['dog', 'dot'\]"):
        load(f"imagefolder:{tmp_path}")


def test_damaged_and_missing_pictures_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        load(f"imagefolder:{tmp_path}")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="test is not a folder"):
        load(f"imagefolder:{tmp_path}")
    (tmp_path / "train").rmdir()
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test")
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"1\.png cannot be read"):
        load(f"imagefolder:{tmp_path}")


def folder_of(path, picture: Image.Image, name: str = "0.png"):
    for part in ("train", "test"):
        for label in "ab":
            (path / part / label).mkdir(parents=True)
            for number in range(2):
                picture.save(path / part / label / f"{number}{name[1:]}")
    return f"imagefolder:{path}"


RAMP = np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16)


def grey(kind: str) -> Image.Image:
    """The same ramp from black to white in every kind of file."""
    palette = Image.fromarray(255 - RAMP).convert("P")
    palette.putpalette([v for k in range(256) for v in [255 - k] * 3])
    clear = Image.merge("LA", [Image.new("L", (16, 16), 0), Image.fromarray(255 - RAMP)])  # all in the alpha
    return {
        "8 bits": Image.fromarray(RAMP),
        "16 bits": Image.fromarray(RAMP.astype(np.uint16) * 257),
        "big-endian": Image.fromarray((RAMP.astype(np.uint16) * 257).astype(">u2")),
        "shares": Image.fromarray((RAMP / 255).astype(np.float32)),
        "whole floats": Image.fromarray(RAMP.astype(np.float32)),
        "palette": palette,
        "alpha only": clear,
        "alpha of RGB": clear.convert("RGBA"),
        "inks": Image.fromarray(RAMP).convert("RGB").convert("CMYK"),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("8 bits", "0.png"), ("16 bits", "0.png"), ("16 bits", "0.tiff"), ("big-endian", "0.tiff"),
        ("shares", "0.tiff"), ("whole floats", "0.tiff"), ("palette", "0.png"), ("palette", "0.bmp"),
        ("alpha only", "0.png"), ("alpha of RGB", "0.webp"), ("inks", "0.tiff"),
    ],
)  # fmt: skip
def test_pictures_of_every_kind_are_as_bright_as_they_look(tmp_path, kind: str, name: str) -> None:
    picture = grey(kind)
    if name.endswith("webp"):
        picture.save(tmp_path / "probe.webp", lossless=True)
        picture = Image.open(tmp_path / "probe.webp")
    data = load(folder_of(tmp_path / "set", picture, name))
    assert data.input_size == (3, 16, 16)
    for channel in data.test.inputs[0]:
        assert np.abs(channel.numpy().astype(int) - RAMP).max() <= (3 if name.endswith("webp") else 1)
    assert data.train.mean[0] == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.fromarray(np.full((8, 8), 300.5, np.float32)), r"floats run from 300.5 to 300.5; scale them"),
        (Image.fromarray(np.full((8, 8), np.nan, np.float32)), r"floats run from nan"),
        (Image.fromarray(np.full((8, 8), 90_000, np.int32)), "mode 'I' do not say how bright"),
    ],
)
def test_pictures_without_a_brightness_are_refused_by_name(tmp_path, picture, message: str) -> None:
    with pytest.raises(InputError, match=rf"train/a/0\.tiff cannot be read as a picture: .*{message}"):
        load(folder_of(tmp_path, picture, "0.tiff"))


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("name", ["0.png", "0.jpg", "0.bmp", "0.webp", "0.tiff"])
def test_a_cut_off_picture_is_named_even_if_it_is_the_first(tmp_path, cut: float, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    dataset = folder_of(tmp_path, Image.fromarray(noise), name)
    path = tmp_path / "train" / "a" / name
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(InputError, match=rf"{name} cannot be read as a picture"):
        load(dataset)


def test_a_decompression_bomb_is_named(tmp_path, monkeypatch) -> None:
    dataset = folder_of(tmp_path, Image.new("L", (64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=r"0\.png cannot be read as a picture: .*decompression bomb"):
        load(dataset)


def test_labels_of_no_class_are_refused(tmp_path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([200]))
    with pytest.raises(
        InputError, match="mnist is damaged: labels run from 0 to 200, but there are 10 classes"
    ):
        load("mnist", data=str(tmp_path))


def test_an_empty_folder_that_cannot_be_filled(tmp_path) -> None:
    with pytest.raises(InputError, match=r"mnist is not in the folder .* could not be downloaded"):
        load("mnist", data=str(tmp_path))


@pytest.mark.parametrize("keep", [0, 10, 4000])
def test_damaged_idx_files(tmp_path, keep: int) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"mnist.*damaged"):
        load("mnist", data=str(tmp_path))


def test_compressed_files_are_not_mistaken_for_data(tmp_path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="damaged"):
        load("mnist", data=str(tmp_path))


def test_unknown_names_and_fractions() -> None:
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        load("mnits")
    with pytest.raises(InputError, match="image_size must be at least 1"):
        load("digits", image_size=0)
    with pytest.raises(InputError, match="validation must be a fraction"):
        load("digits", validation=1.0)
    assert "digits" in NAMES
