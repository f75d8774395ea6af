import pytest

from resnetkit.errors import LabelMismatch
from resnetkit.tasks.labels import match_labels


def test_names_are_matched_whatever_their_order():
    assert match_labels(("a", "b", "c"), 3, ("c", "a", "b"), 3).to_model == (2, 0, 1)


def test_fewer_classes_than_the_model_knows_are_fine_and_said():
    found = match_labels(("a", "b", "c"), 3, ("c", "a"), 2)
    assert found.to_model == (2, 0)
    assert "2 of the model's 3" in (found.note or "")


def test_every_unknown_class_is_reported():
    with pytest.raises(LabelMismatch, match=r"2 of 3 classes .* x, y; .* not in the data: b, c"):
        match_labels(("a", "b", "c"), 3, ("a", "x", "y"), 3)


@pytest.mark.parametrize(("model", "data"), [(None, ("a", "b")), (("a", "b"), None), (None, None)])
def test_without_names_equal_counts_are_compared_by_index_and_it_is_said(model, data):
    found = match_labels(model, 2, data, 2)
    assert found.to_model == (0, 1)
    assert "by index" in (found.note or "")


def test_without_names_unequal_counts_are_refused():
    with pytest.raises(LabelMismatch, match="10 classes, the data 3"):
        match_labels(None, 10, ("a", "b", "c"), 3)
