import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resnetkit.data.opening import open_data
from resnetkit.errors import DataError, LabelMismatch, MissingExtra

Make = Callable[..., Path]


def write(folder: Path, text: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def test_paths_are_relative_to_the_table(make_folder: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder({"pictures": 4})
    absolute = folder / "pictures" / "3.png"
    table = write(folder, f"path,label\npictures/0.png,cat\npictures/1.png,dog\npictures/2.png,cat\n{absolute},dog\n")
    monkeypatch.chdir("/")
    data = open_data(table, val_share=0.5)
    assert data.class_names == ("cat", "dog")
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 2, "val": 2, "all": 4}
    whole = data.split("all")
    assert whole.labels.tolist() == [0, 0, 1, 1]
    assert [whole.image(index).shape for index in range(4)] == [(12, 16, 3)] * 4


def test_the_column_split(make_folder: Make) -> None:
    folder = make_folder({"a": 6})
    rows = [f"a/{i}.png,{i % 2},{split}" for i, split in enumerate(["train", "train", "valid", "VAL", "test", "test"])]
    data = open_data(write(folder, "\n".join(["path,label,split", *rows])))
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 2, "val": 2, "test": 2}
    assert data.split("test").name(0) == "a/4.png"
    assert not data.val_from_train


def test_numbers_are_ordered_by_value(make_folder: Make) -> None:
    rows = "\n".join(f"{i}.png,{i}" for i in range(12))
    data = open_data(write(make_folder({".": 12}), f"path,label\n{rows}\n"), val_share=0)
    assert data.class_names == tuple(str(i) for i in range(12))


def test_spreadsheets_marks_quotes_tabs_and_other_columns(make_folder: Make) -> None:
    folder = make_folder({"x, y": 2})
    table = write(folder, '\ufeffid,path,label\r\n1,"x, y/0.png",a\r\n2,"x, y/1.png",b\r\n')
    data = open_data(table, val_share=0)
    assert data.split("train").image(1).shape == (12, 16, 3)
    assert "columns that are not used: id" in data.notes
    tabs = write(folder, "path\tlabel\nx, y/0.png\ta\nx, y/1.png\tb\n", "table.tsv")
    assert np.array_equal(open_data(tabs, val_share=0).split("train").labels, [0, 1])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DataError, "has no column path and label.*it says none"),
        ("file,label\n0.png,a\n", DataError, "has no column path: .*it says file, label"),
        ("path,label\n", DataError, "lists no images"),
        ("path,label\n0.png,a\n1.png,\n", DataError, "line 3: label is empty"),
        ("path,label\n,a\n", DataError, "line 2: path is empty"),
        ("path,label\n0.png\n", DataError, "line 2: label is empty"),
        ("path,label,split\n0.png,a,holdout\n", DataError, "line 2: split 'holdout' is none of train, val, test"),
        ("path,label,split\n0.png,a,train\n0.png,a,val\n", DataError, "line 3: 0.png is in train and in val"),
        ("path,label,split\n0.png,a,train\n1.png,b,train\n2.png,c,val\n", LabelMismatch, "only in val: c"),
        ("path,label\n0.png,a\n1.png,a\n", DataError, "only one class"),
        ('path,label\n"0.png,a\n', DataError, "is not a table"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        open_data(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8"):
        open_data(write(tmp_path, "path,label\ncafé.png,a\n", encoding="latin-1"))


def test_parquet(make_folder: Make) -> None:
    import pyarrow
    from pyarrow import parquet

    folder = make_folder({".": 3})
    table = pyarrow.table(
        {"path": ["0.png", "1.png", "2.png"], "label": [3, 10, 3], "split": ["train", "train", "test"]}
    )
    parquet.write_table(table, folder / "table.parquet")
    data = open_data(folder / "table.parquet", val_share=0)
    assert data.class_names == ("3", "10")
    assert data.split("test").name(0) == "2.png"
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_data(write(folder, "nonsense", "broken.parquet"))


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"resnetkit\[parquet\]"):
        open_data(write(tmp_path, "PAR1", "table.parquet"))


def test_several_labels_become_a_matrix(make_folder: Make) -> None:
    folder = make_folder({"a": 6})
    rows = ["a/0.png,cat;dog,train", "a/1.png,dog,train", "a/2.png,fox; cat,train", "a/3.png,fox,train"]
    more = ["a/4.png,fox;dog;cat,val", "a/5.png,cat,test"]
    data = open_data(write(folder, "\n".join(["path,label,split", *rows, *more])))
    assert data.several_labels
    assert data.class_names == ("cat", "dog", "fox")
    for part in data.splits.values():
        for index in range(len(part)):
            labels = {name for name, one in zip(data.class_names, part.targets[index], strict=True) if one}
            line = next(row for row in rows + more if row.startswith(part.name(index)))
            assert labels == {label.strip() for label in line.split(",")[1].split(";")}
            assert data.class_names[part.labels[index]] == min(labels)
    some = data.split("train").subset(np.array([2, 0]))
    assert some.targets.tolist() == data.split("train").targets[[2, 0]].tolist()


def test_weights_follow_their_images(make_folder: Make) -> None:
    folder = make_folder({"a": 8})
    rows = "\n".join(f"a/{i}.png,{'xy'[i % 2]},{i / 2}" for i in range(8))
    data = open_data(write(folder, f"path,label,weight\n{rows}\n"), val_share=0.25, seed=1)
    for part in data.splits.values():
        for index in range(len(part)):
            assert part.weights[index] == int(part.name(index)[2]) / 2
    assert not data.several_labels
    bare = open_data(write(folder, f"path,label\n{rows}\n".replace(",0.5", "")), val_share=0)
    assert bare.split("train").weights is None
    assert bare.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a/0.png,x;;y,1", "line 2: labels 'x;;y' hold an empty"),
        ("a/0.png,x;x,1", "line 2: labels 'x;x' hold an empty or repeated"),
        ("a/0.png,x,1\na/1.png,y,-1", "line 3: weight '-1' is not a number from 0 on"),
        ("a/0.png,x,1\na/1.png,y,", "line 3: weight '' is not"),
        ("a/0.png,x,nan", "line 2: weight 'nan' is not"),
        ("a/0.png,x,inf", "line 2: weight 'inf' is not"),
        ("a/0.png,x,1\na/0.png,y,2", "line 3: a/0.png has weight 1 above: keep one"),
        ("a/0.png,x,0\na/1.png,y,0", "all weights of a part are 0"),
    ],
)
def test_impossible_labels_and_weights_name_their_line(make_folder: Make, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(write(make_folder({"a": 2}), f"path,label,weight\n{rows}\n"))
