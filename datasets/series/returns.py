"""Returns: the logarithmic returns of a price, in long windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from ganglion.datasets.series.cutting import SeriesSettings
from ganglion.datasets.series.preparing import SeriesFactory
from ganglion.datasets.series.reading import find_file, read_table
from ganglion.datasets.series.record import Record
from ganglion.datasets.series.recording import Meaning, to_record
from ganglion.engine.api import DataError, hookimpl, setting

SOURCE = "sp500_daily_1950_2015.csv is made from the table sp500 of the R package gt, github.com/rstudio/gt"


class ReturnsSettings(SeriesSettings):
    """Settings of Returns."""

    path: str = setting("sp500/sp500_daily_1950_2015.csv", "the file, as it is or below a data folder")
    date: str = setting("date", "the column of dates, by name or number from 0")
    price: str = setting("adj_close", "the column of prices, by name or number from 0")
    length: int | None = setting(8192, "steps of a window", unit="steps", ge=1)
    scale: Literal["minmax", "standard", "symmetric", "none"] = setting(
        "none", "0 to 1, mean 0 and deviation 1, -1 to 1, or as they are: fitted on the rows that are learnt from"
    )
    test_share: float = setting(0.5, "share of the returns, the later ones, that is kept for testing", ge=0, lt=1)
    gap: int | None = setting(
        0, "returns that are left out between the parts; none: as many as a window has", unit="steps", ge=0
    )


class Returns(SeriesFactory):
    """Differences of the logarithms of a price from one row to the next, in windows of 8,192 that overlap.

    By default the S&P 500 index from 1950 to 2015: 16,606 returns, the earlier half to learn from and the later one to
    test on; with windows this long there is no room for a gap, and no window shares a return with one of the other
    part. Files with the newest row first are turned round.

    Deviations from FinGAN (Takahashi, Chen, Tanaka-Ishii 2019, https://doi.org/10.1016/j.physa.2019.121261): one index
    rather than the shares in it, split by time rather than by share; a missing price is refused rather than called a
    return of 0. Values are not scaled, as there.
    """

    Settings = ReturnsSettings

    name = "Returns"
    usual_length = 8192

    def read(self) -> Record:
        settings = self.settings
        path = find_file(self.name, settings.path, self.context, SOURCE)
        meaning = Meaning(columns=(settings.price,), time=settings.date)
        record = to_record(read_table(path), meaning, self.name, self.context.notify)
        prices = record.values
        if not bool((prices > 0).all()):
            least = float(prices.min())
            raise DataError(f"{path}: column '{record.features[0]}' has a price of {least:g}, expected prices above 0")
        if len(prices) < 2:
            raise DataError(f"{path}: has one price, and a return needs two")
        values = prices.log().diff(dim=0)
        return replace(record, values=values, features=("return",), series=[range(len(values))])


@hookimpl
def register_datasets(register: Any) -> None:
    """Returns."""
    register("Returns", Returns)
