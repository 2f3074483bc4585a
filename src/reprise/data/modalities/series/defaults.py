"""Season, horizon and lookback of a series whose config leaves them to its frequency and length."""

import re

from reprise.config.modalities.series import SeriesWindow
from reprise.data.timestamps import DAY, SECOND, UNITS

SEASONS = {"D": 7, "B": 5, "W": 52, "WOM": 12, "M": 12, "Q": 4, "Y": 1}
"""Steps of a season by the unit of the frequency: a week of days, else a year."""
LONGEST_SEASON = 96
"""The longest season that is forecast as a whole by default."""
LOOKBACK = 512
"""The longest default lookback."""
ROWS_PER_LOOKBACK, ROWS_PER_STEP = 5, 12
"""A series has at least so many rows for each step of the default lookback and horizon, so that every split has windows."""


class ResolvedWindow(SeriesWindow):
    """Windows whose lookback, horizon and season are known."""

    lookback: int
    horizon: int
    season: int


def resolve(window: SeriesWindow, frequency: str, rows: int) -> ResolvedWindow:
    """Return the windows with the defaults for a series of this frequency (pandas' alias) and length."""
    season = window.season or season_of(frequency)
    horizon = window.horizon or max(1, min(_usual_horizon(frequency, season), rows // ROWS_PER_STEP))
    lookback = window.lookback or max(1, min(_usual_lookback(frequency, season), LOOKBACK, rows // ROWS_PER_LOOKBACK))
    known = {"lookback": lookback, "horizon": horizon, "season": season}
    return ResolvedWindow.model_validate(window.model_dump() | known)


def notes(window: SeriesWindow, resolved: ResolvedWindow, frequency: str, rows: int) -> list[str]:
    """Return a note on the settings that the frequency and the length decided."""
    chosen = [key for key in ("lookback", "horizon", "season") if getattr(window, key) is None]
    if not chosen:
        return []
    listed = ", ".join(f"window.{key}={getattr(resolved, key)}" for key in chosen)
    return [f"{listed}: by the frequency {frequency} and the {rows:,} rows of the series"]


def season_of(frequency: str) -> int:
    """Return the steps of a season: a day of minutes and hours, an hour of seconds, a week of days, a year of longer steps.

    1 (no season) if no whole number of steps makes up a season, or a step is shorter than a second.
    """
    count, unit = _parsed(frequency)
    if unit in UNITS:
        step = count * UNITS[unit]
        whole = DAY if step >= 60 * SECOND else 3600 * SECOND if step >= SECOND else step
        return whole // step if whole % step == 0 else 1
    season = SEASONS.get(unit, 1)
    return season // count if season % count == 0 else 1


def _parsed(frequency: str) -> tuple[int, str]:
    """Return count and unit of a frequency: 2 and M of `2MS`, 15 and min of `15min`, 3 and M of `every 3 months on day 5`."""
    if words := re.match(r"every (?:(\d+) )?month", frequency):
        return int(words[1] or 1), "M"
    alias = re.match(r"(\d*)([A-Za-z]+)", frequency)
    if not alias:
        return 1, ""
    count, unit = int(alias[1] or 1), alias[2]
    if unit in UNITS or unit in SEASONS:
        return count, unit
    return count, unit.removesuffix("S").removesuffix("E").removeprefix("B")  # MS, BQE, YE


def _usual_horizon(frequency: str, season: int) -> int:
    if _parsed(frequency)[1] == "W":
        return 13
    if season > LONGEST_SEASON:
        return 60
    return season if season > 1 else 12


def _usual_lookback(frequency: str, season: int) -> int:
    """Return seven days of minutes and hours, four weeks of days, two years of longer steps, or eight usual horizons."""
    unit = _parsed(frequency)[1]
    if season == 1:
        return 8 * _usual_horizon(frequency, season)
    return season * (7 if unit in UNITS else 4 if unit in {"D", "B"} else 2)
