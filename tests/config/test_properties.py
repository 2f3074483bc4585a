"""Property tests of configs."""

import copy
import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reprise.config import check, compose, render
from reprise.config.compose import leaves, load
from reprise.config.sections import Size
from reprise.errors import UserError
from tests.config.conftest import ROOT

TREE = compose(ROOT, ["experiment=digits_cnn"]).model_dump(by_alias=True)
plain = st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()
nested = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
)


@given(
    st.text(),
    st.floats(min_value=1e-300, max_value=1e300),
    st.integers(0, 2**63),
    st.dictionaries(st.text("abcde", min_size=1), nested),
)
def test_a_written_config_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, text: str, rate: float, seed: int, arguments: dict[str, Any]
) -> None:
    """For any text, any number format in YAML, and any arguments of a plugin."""
    tree = copy.deepcopy(TREE)
    tree["data"]["citation"] = text
    tree["optimizer"]["lr"], tree["seed"] = rate, seed
    tree["model"] = {**arguments, "_target_": "torch.nn.Linear"}
    try:
        config = check(tree)
    except UserError as refused:
        assume("is missing" not in str(refused))  # "???" marks a required value
        raise
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    file.write_text(render(config), encoding="utf-8")
    again = load(file)
    assert again == config
    assert render(again) == render(config)


@given(nested)
def test_every_leaf_has_exactly_one_path(tree: Any) -> None:
    for path, value in leaves(tree):
        node = tree
        for part in path.split(".") if path else []:
            node = node[int(part)] if isinstance(node, list) else node[part]
        assert node is value
    paths = [path for path, _ in leaves(tree)]
    assert len(set(paths)) == len(paths)


@given(st.integers() | st.floats() | st.booleans() | st.text() | st.none())
def test_a_size_is_a_count_or_a_share(value: Any) -> None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    is_share = isinstance(value, float) and not math.isnan(value) and 0 < value < 1
    if is_count or is_share:
        assert TypeAdapter(Size).validate_python(value) is value
    else:
        with pytest.raises(ValidationError):
            TypeAdapter(Size).validate_python(value)


@pytest.mark.parametrize("section", ["data", "window", "trainer", "tracking"])
def test_a_key_with_a_missing_letter_is_matched_to_the_right_key(section: str) -> None:
    for name in TREE[section]:
        for at in range(len(name)):
            typo = name[:at] + name[at + 1 :]
            with pytest.raises(UserError) as refused:
                check(TREE | {section: TREE[section] | {typo: 1}})
            assert str(refused.value).startswith(f"{section}.{typo}: no such key; the nearest is {section}.{name}")
