"""Static columns, which have one value for each series: numbers as they are, categories by one channel each."""

from collections.abc import Mapping, Sequence

Value = float | str
Categories = dict[str, list[str] | None]
"""The categories of each static column, sorted; None for a column of numbers."""


def categories_of(series: Sequence[Mapping[str, Value]]) -> Categories:
    """Return the categories of the columns of all series. Every series has train windows, so they are those of train."""
    found: Categories = {}
    for column in series[0]:
        texts = {value for one in series if isinstance(value := one[column], str)}
        found[column] = sorted(texts) if texts else None
    return found


def channels_of(categories: Categories) -> list[str]:
    """Return the names of the channels: `size` for a number, `region=north` for a category."""
    return [
        name
        for column, texts in categories.items()
        for name in ([column] if texts is None else [f"{column}={text}" for text in texts])
    ]


def encode(values: Mapping[str, Value], categories: Categories) -> list[float]:
    """Return the values of the channels for one series: 1 for its category and 0 for the others.

    Raises:
        ValueError: if a value is no known category, or no number in a column of numbers.

    """
    encoded: list[float] = []
    for column, texts in categories.items():
        value = values[column]
        if texts is None:
            if isinstance(value, str):
                raise ValueError(f"{column}={value}: is no number, as in training")
            encoded.append(value)
        else:
            if value not in texts:
                raise ValueError(f"{column}={value}: not in the training data, which have {', '.join(texts)}")
            encoded += [float(value == text) for text in texts]
    return encoded
