"""Every row of a known data set is usable."""

import pytest

from resnetkit.catalog.datasets import DATASETS


@pytest.mark.parametrize("name", DATASETS)
def test_a_row_says_what_is_needed_to_fetch_and_to_verify(name: str) -> None:
    row = DATASETS[name]
    assert row.licence
    assert row.source
    assert len(set(row.classes)) == len(row.classes)
    assert bool(row.files) == (row.layout != "digits")
    for file in row.files:
        assert file.url.startswith("http")
        known = [digest for digest in (file.sha256, file.md5) if digest]
        assert [len(digest) for digest in known] == [64 if file.sha256 else 32]
        assert int(known[0], 16)
        assert file.size or row.layout == "npz"


def test_what_the_issue_names_is_there() -> None:
    named = {"digits", "cifar10", "cifar100", "fashion-mnist", "imagenette", "imagewoof", "oxford-pets", "flowers102"}
    assert named <= set(DATASETS)
    assert sum(name.endswith("mnist") for name in DATASETS) == 12 + 1
    assert len(DATASETS["flowers102"].classes) == 102
