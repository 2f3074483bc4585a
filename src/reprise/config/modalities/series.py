"""Config schema of series: values over time, split into windows to forecast."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from reprise.config.sections import DataConfig, PublishedData, Section, Size, WindowConfig


class Channel(Section):
    """One column of a series."""

    name: str
    unit: str


class SeriesData(PublishedData):
    """One long series of several channels."""

    kind: Literal["series"]
    reader: Literal["csv_series"]
    time: str
    channels: Annotated[list[Channel], Field(min_length=1)]


class SeriesWindow(WindowConfig):
    """Split of a series into windows: input steps, forecast steps and channels."""

    kind: Literal["series"]
    lookback: PositiveInt
    horizon: PositiveInt
    stride: PositiveInt
    inputs: list[str] | None
    targets: Annotated[list[str], Field(min_length=1)]
    calendar: list[Literal["year"]]
    val_size: Size
    test_size: Size
    season: PositiveInt
    limit: PositiveInt | None

    def check_data(self, data: DataConfig) -> None:
        """Raise ValueError if `inputs` or `targets` name a channel that the series does not have."""
        assert isinstance(data, SeriesData), "kinds are equal: checked before"
        known = [channel.name for channel in data.channels]
        for key, chosen in (("inputs", self.inputs or []), ("targets", self.targets)):
            for channel in chosen:
                if channel not in known:
                    raise ValueError(f"window.{key} names {channel!r}; data={data.name} has {', '.join(known)}")


DATA = (SeriesData,)
WINDOW = SeriesWindow
