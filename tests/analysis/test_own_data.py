"""One's own tables, texts and picture folders: what a network sees of them, how they are split, bad input."""

import gzip
import importlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from running import ends_in_one_line
from sklearn.model_selection import train_test_split

from analysis.lab.data.datasets import load
from analysis.lab.data.folders import read_folder
from analysis.lab.data.splits import stratified
from analysis.lab.data.tables import read_table
from analysis.lab.settings import ColumnsSettings
from capacity import InputError


def people(rows: int = 200) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 10, rows).round(4),
            "city": random.choice(["Oslo", "Rome", "Bern"], rows),
            "code": random.integers(0, 3, rows),
            "name": [f"person {k}" for k in range(rows)],
        }
    )
    frame["grade"] = np.where(frame["age"] > 40, "old", "young")
    return frame


def written(frame: pd.DataFrame, path: Path, **options) -> str:
    frame.to_csv(path, index=False, **options)
    return f"table:{path}"


def test_a_table_is_standardised_and_one_hot_by_its_training_rows(tmp_path: Path) -> None:
    frame = people()
    data = load(written(frame, tmp_path / "people.csv"))
    assert data.classes == ("old", "young") and data.shape == data.input_size == (5,)  # age, code, 3 cities
    assert (len(data.train), len(data.validation), len(data.test)) == (144, 16, 40)
    every = torch.cat([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert torch.equal(every[:, 2:].sum(1), torch.ones(200))
    columns = data.train.inputs[:, :2]
    assert columns.mean(0).abs().max() < 1e-6 and (columns.std(0, correction=0) - 1).abs().max() < 1e-6
    assert every[:, 0].mean().abs() > 1e-4  # not by all rows
    labels = torch.cat([data.train.labels, data.validation.labels, data.test.labels])
    by_age, order = frame.sort_values("age"), every[:, 0].argsort()
    assert [["Bern", "Oslo", "Rome"][int(k)] for k in every[order, 2:].argmax(1)] == list(by_age["city"])
    assert [data.classes[int(k)] for k in labels[order]] == list(by_age["grade"])
    assert data.notes == (
        "people.csv: the label is column 'grade', the last",
        "people.csv: column 'name' is left out: 200 different words in 200 rows",
    )


def test_columns_that_tell_nothing_are_left_out_and_said(tmp_path: Path) -> None:
    frame = people().drop(columns="name")
    frame.insert(0, "year", 2024.0)
    frame.insert(1, "land", "CH")
    data = load(written(frame, tmp_path / "people.csv"))
    assert data.shape == (5,)
    assert data.notes[1:] == tuple(
        f"people.csv: column {name!r} is left out: {value} in every training row"
        for name, value in (("year", "2024.0"), ("land", "CH"))
    )
    with pytest.raises(InputError, match=r"'year' is 2024\.0 in every training row"):
        load(written(frame[["year", "grade"]], tmp_path / "few.csv"))


def test_gaps_are_filled_by_the_training_rows_and_said(tmp_path: Path) -> None:
    frame = people()
    frame["part"] = ["train"] * 120 + ["Test"] * 60 + ["val"] * 20
    frame.loc[[0, 1], "age"] = np.nan
    frame.loc[[2, 150], "city"] = None
    frame.loc[151, "city"] = "Lima"
    frame.loc[199, "grade"] = None
    name = written(frame, tmp_path / "people.csv")
    data = load(name, columns=ColumnsSettings(label="grade", split_column="part"))
    assert (len(data.train), len(data.validation), len(data.test)) == (120, 19, 60)
    median, age = frame["age"][:120].median(), frame["age"][:120]
    filled = age.fillna(median)
    expected = (filled - filled.mean()) / filled.std(ddof=0)
    assert np.allclose(np.sort(data.train.inputs[:, 0]), np.sort(expected), atol=1e-5)
    assert data.shape == (6,)  # three cities, and those that are missing
    assert float(data.test.inputs[31, 2:].sum()) == 0.0  # Lima
    assert data.notes[0] == "people.csv: rows without a label in 'grade' are left out: 1"
    assert "median of the training rows: 2 in 'age'" in data.notes[2]
    assert "a category of their own: 2 in 'city'" in data.notes[3]
    assert data.notes[4] == "people.csv: categories of 'city' in no training row, which count as none: 1"


def test_numbers_can_be_categories_and_labels(tmp_path: Path) -> None:
    name = written(people(), tmp_path / "people.csv", sep=";")
    data = load(name, columns=ColumnsSettings(label="code", categories=()))
    assert data.classes == ("0", "1", "2") and data.shape == (1 + 3 + 2,)
    assert load(name, columns=ColumnsSettings(categories=("code",))).shape == (1 + 3 + 3,)
    numbers = people().assign(grade=np.arange(200) % 11)
    assert load(written(numbers, tmp_path / "n.csv")).classes == tuple(map(str, range(11)))
    words = people().assign(grade=np.where(np.arange(200) % 2, "None", "NA"))
    assert load(written(words, tmp_path / "w.csv")).classes == ("NA", "None")


def test_the_seed_of_the_split_and_nothing_else_changes_it(tmp_path: Path) -> None:
    name = written(people(), tmp_path / "people.csv")
    one, again, other = (load(name, columns=ColumnsSettings(split_seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one.test.inputs, again.test.inputs) and torch.equal(
        one.train.labels, again.train.labels
    )
    assert not torch.equal(one.test.inputs, other.test.inputs)
    larger = load(name, validation=0.3)
    assert torch.equal(one.test.labels, larger.test.labels)  # the test is apart before validation is chosen


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.floats(0.05, 0.5), st.integers(0, 2**31))
def test_stratified_splits_keep_the_frequencies(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    stay, held = stratified(labels, np.arange(len(labels)), share, seed)
    assert sorted([*stay, *held]) == list(range(len(labels)))
    assert len(held) == max(1, round(share * len(labels)))
    for label, count in enumerate(counts):
        found = int((labels[held] == label).sum())
        assert abs(found - share * count) <= 1 + len(counts) / 2


def test_stratified_splits_are_as_even_as_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    _, held = stratified(labels, np.arange(100), 0.2, seed=3)
    _, theirs = train_test_split(np.arange(100), test_size=0.2, stratify=labels, random_state=3)
    assert np.bincount(labels[held]).tolist() == np.bincount(labels[theirs]).tolist() == [10, 6, 4]


TEXTS = {
    "review": ["good film", "bad film", "what a good day", "such a bad bad day"] * 10,
    "stars": [5, 1, 4, 1] * 10,
    "verdict": ["good", "bad", "good", "bad"] * 10,
}


def test_texts_are_hashed(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import HashingVectorizer

    written(pd.DataFrame(TEXTS), tmp_path / "reviews.csv")
    data = load(f"text:{tmp_path / 'reviews.csv'}")
    assert data.shape == (2048,) and data.notes[1:] == ("reviews.csv: the text is column 'review'",)
    assert torch.allclose(data.test.inputs.square().mean(1), torch.ones(8))
    found = {tuple(row.nonzero().flatten().tolist()) for row in data.train.inputs}
    theirs = HashingVectorizer(n_features=2048).transform(TEXTS["review"][:4])
    assert found == {tuple(sorted(row.indices.tolist())) for row in theirs}


def word_tokenizer(path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "good", "bad", "film", "a", "day"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(path))


def test_texts_are_a_tokenizer_s_ids(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    word_tokenizer(tmp_path / "tokenizer.json")
    written(pd.DataFrame(TEXTS), tmp_path / "reviews.csv")
    name, columns = f"text:{tmp_path / 'reviews.csv'}", ColumnsSettings(tokenizer=str(tmp_path))
    data = load(name, columns=columns)
    assert data.train.inputs.dtype == torch.int64 and data.shape == (5,)
    assert {tuple(row) for row in data.train.inputs.tolist()} == {
        (2, 4, 0, 0, 0), (3, 4, 0, 0, 0), (1, 5, 2, 6, 0), (1, 5, 3, 3, 6),
    }  # fmt: skip
    assert torch.equal(data.input_size, data.train.inputs[:1])
    with pytest.raises(InputError, match="none is not a file: --tokenizer takes a tokenizer"):
        load(name, columns=ColumnsSettings(tokenizer=str(tmp_path / "none")))


def folder_of_classes(path: Path, count: int = 12) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (path / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (200 * label, 10 * number, 90)).save(path / name / f"{number}.png")
    return path


def test_a_folder_without_train_and_test_is_split_here(tmp_path: Path) -> None:
    data = load(f"imagefolder:{folder_of_classes(tmp_path / 'pets')}")
    assert (len(data.train), len(data.validation), len(data.test)) == (17, 2, 5)
    assert sorted(torch.bincount(data.test.labels).tolist()) == [2, 3]
    parts = (data.train, data.validation, data.test)
    seen = {tuple(pixel) for part in parts for pixel in part.inputs[:, :2, 0, 0].tolist()}
    assert len(seen) == 24  # each picture once
    values = data.train.inputs.double() / 255  # of the training pictures alone
    assert np.allclose(data.test.mean, values.mean((0, 2, 3)))


def test_a_validation_folder_is_used(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 3), ("test", 4)):
        folder_of_classes(tmp_path / part, count)
    data = load(f"imagefolder:{tmp_path}")
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 8)


NUMBERS = people()[["age", "grade"]]
BAD = {
    "no file": (None, {}, "is not a file; it must be a CSV file: the first line names the columns"),
    "empty": ("", {}, "is empty: the first line names the columns, each further line is a sample"),
    "no rows": ("age,grade\n", {}, "has 2 columns and no rows"),
    "no names": ("1,2\n3,4\n", {}, "starts with 1, 2, which are no names"),
    "bytes": (b"\x89PNG\xff\xfe\n\xff", {}, "cannot be read as CSV"),
    "zeros": (b"\x89PNG\xff\xfe\n\x00\xff", {}, "is no text: it holds zeros"),
    "no label": (NUMBERS, {"label": "grad"}, r"unknown column 'grad'; did you mean 'grade'\?"),
    "one class": (NUMBERS.assign(grade="old"), {}, "holds only 'old': a classifier needs at least two"),
    "a price": (NUMBERS.assign(grade=NUMBERS["age"] / 3), {}, "different numbers such as .* are no classes"),
    "names as label": (people()[["age", "name"]], {}, "different values such as 'person 0' in 200 rows"),
    "a word": (
        NUMBERS.astype({"age": object}).replace({"age": {NUMBERS["age"][7]: "old?"}}), {},
        "column 'age', row 8: 'old\\?' is no number, as 199 of its 200 cells are",
    ),
    "commas": (
        NUMBERS.assign(age=[f"{age:.2f}".replace(".", ",") for age in NUMBERS["age"]]), {},
        "is no number, as 200 of its 200 cells are: decimals have a point",
    ),
    "infinity": (NUMBERS.assign(age=[*NUMBERS["age"][:-1], np.inf]), {}, "row 200: infinity is no number"),
    "label alone": (NUMBERS[["grade"]], {}, "has no column besides the label 'grade'"),
    "only names": (people()[["name", "grade"]], {}, "no column of numbers or categories besides the label"),
    "few rows": (NUMBERS[:6], {}, "has 6 rows with a label; at least 10"),
    "ragged": ("age,grade\n1,a\n2,b,c,d\n", {}, "cannot be read as CSV"),
    "wide": ("age,grade\n1,a,x\n2,b,x\n", {}, "its lines have more cells than its first"),
    "no split": (NUMBERS, {"split_column": "part"}, "unknown column 'part'"),
    "odd split": (NUMBERS.assign(part="?", y=NUMBERS["grade"]), {"split_column": "part"}, r"row 1 is '\?'"),
    "no test": (NUMBERS.assign(part="train", y=NUMBERS["grade"]), {"split_column": "part"}, "no test rows"),
    "no category": (NUMBERS, {"categories": ("town",)}, "unknown column 'town'"),
}  # fmt: skip


def test_decimal_commas_beside_semicolons_are_numbers(tmp_path: Path) -> None:
    ours = NUMBERS.assign(age=NUMBERS["age"] / 3)
    ours.to_csv(tmp_path / "points.csv", index=False)
    ours.to_csv(tmp_path / "commas.csv", index=False, sep=";", decimal=",")
    found = [read_table(tmp_path / name, ColumnsSettings(), 0.2) for name in ("points.csv", "commas.csv")]
    assert torch.equal(found[0].train.inputs, found[1].train.inputs) and found[1].shape == (1,)


def test_a_validation_folder_is_the_test_where_there_is_no_other(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("val", 4)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for place in range(count):
                Image.new("RGB", (8, 8), (20 * place, 0, 0)).save(tmp_path / part / name / f"{place}.png")
    train, held, test, classes = read_folder(tmp_path, 8, 0.25, 0)
    assert (len(test.labels), len(train.labels) + len(held.labels), classes) == (8, 24, ("cat", "dog"))


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_told_the_form_expected(tmp_path: Path, case: str) -> None:
    content, columns, message = BAD[case]
    path = tmp_path / "bad.csv"
    if isinstance(content, pd.DataFrame):
        written(content, path)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as found:
        load(f"table:{path}", columns=ColumnsSettings(**columns))
    assert "\n" not in str(found.value)


def test_bad_texts_and_folders_are_told_the_form_expected(tmp_path: Path) -> None:
    written(NUMBERS, tmp_path / "n.csv")
    with pytest.raises(InputError, match="no column of words besides the label, only numbers"):
        load(f"text:{tmp_path / 'n.csv'}")
    with pytest.raises(InputError, match="unknown column 'body'"):
        load(f"text:{tmp_path / 'n.csv'}", columns=ColumnsSettings(text="body"))
    with pytest.raises(InputError, match=r"must hold PATH/CLASS/picture\.jpg, or PATH/train"):
        load(f"imagefolder:{tmp_path / 'nowhere'}")
    with pytest.raises(InputError, match=r"no pictures in class folders .* must hold CLASS/picture\.jpg"):
        load(f"imagefolder:{tmp_path}")
    pets = folder_of_classes(tmp_path / "pets")
    shutil.rmtree(pets / "dog")
    with pytest.raises(InputError, match="single class, 'cat'"):
        load(f"imagefolder:{pets}")


@pytest.mark.parametrize("command", ["capacity_curve", "data_requirement", "distillation_table"])
def test_commands_take_a_table_and_say_what_reading_it_changed(tmp_path: Path, command: str, capsys) -> None:
    main = importlib.import_module(f"analysis.{command}").main
    name = written(people(), tmp_path / "people.csv")
    main(["--smoke", "--dataset", name, "--label", "grade", "--output", str(tmp_path / "run")])
    assert "people.csv: column 'name' is left out" in capsys.readouterr().out
    assert (tmp_path / "run" / "results.csv").exists()
    wrong = ["--smoke", "--dataset", name, "--label", "grad"]
    ends_in_one_line(main, wrong, "unknown column 'grad'", tmp_path / "none", capsys)


def test_the_content_of_the_file_is_what_a_run_goes_on_from(tmp_path: Path) -> None:
    from analysis.capacity_curve import Config, run

    name = written(people(), tmp_path / "people.csv")
    config = Config(dataset=name, smoke=True, output=str(tmp_path / "run"), iterations=1)
    first = run(config)
    assert run(config).equals(first)
    written(
        people().assign(age=lambda frame: frame["age"] + 1.5 * (frame.index == 3)), tmp_path / "people.csv"
    )
    with pytest.raises(InputError, match="data"):
        run(config)


def test_pictures_alone_are_augmented(tmp_path: Path) -> None:
    from analysis.lab.runner import Runner
    from analysis.lab.settings import RunnerSettings

    with pytest.raises(InputError, match=r"--augment and --shift are for pictures"):
        Runner(RunnerSettings(dataset=written(people(), tmp_path / "people.csv"), shift=1))


def test_shifts_as_large_as_a_picture_are_refused() -> None:
    from analysis.capacity_curve.config import Config
    from analysis.lab.runner import Runner

    Runner(Config(shift=7, limit=64))
    with pytest.raises(InputError, match="shift must be below the pictures' side, 8 pixels, found 8"):
        Runner(Config(shift=8, limit=64))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sparse.csv", None, "is the largest that this machine has memory for"),
        (
            "bomb.csv.gz",
            gzip.compress(bytes(2**24), mtime=0),
            "is the largest that this machine has memory for",
        ),
        ("zeros.csv", b"x,y\n1,a\n\0\0", "is no text: it holds zeros"),
        ("cut.csv.gz", gzip.compress(b"x,y\n1,a\n" * 999, mtime=0)[:40], "cannot be read as CSV"),
        ("noise.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 99, "cannot be read as CSV"),
        ("other.csv.bz2", b"BZh91AY", "cannot be read as CSV|columns and no rows"),
    ],
)
def test_tables_that_unpack_into_more_than_memory_are_refused(
    tmp_path: Path, monkeypatch, name: str, content: bytes | None, message: str
) -> None:
    monkeypatch.setattr("analysis.lab.data.csv_files.free_memory", lambda: 2**24)
    path = tmp_path / name
    if content is None:
        with open(path, "wb") as file:
            file.truncate(2**36)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load(f"table:{path}")
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_packed_table_is_read_as_it_is_unpacked(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{k},{'ab'[k % 2]}\n" for k in range(40))
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    plain, packed = (load(f"table:{tmp_path / name}") for name in ("a.csv", "a.csv.gz"))
    assert torch.equal(plain.train.inputs, packed.train.inputs)
