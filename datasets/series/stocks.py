"""Stocks: one share's daily prices and volume, in windows of 24 days."""

from __future__ import annotations

from typing import Any

from ganglion.datasets.series.cutting import SeriesSettings
from ganglion.datasets.series.preparing import SeriesFactory
from ganglion.datasets.series.reading import find_file, read_table
from ganglion.datasets.series.record import Record
from ganglion.datasets.series.recording import Meaning, to_record
from ganglion.engine.api import hookimpl, setting

SOURCE = "stock_data.csv is in the folder data of github.com/jsyoon0823/TimeGAN"


class StocksSettings(SeriesSettings):
    """Settings of Stocks."""

    path: str = setting("stocks/stock_data.csv", "the file, as it is or below a data folder")


class Stocks(SeriesFactory):
    """Google's share from 2004 to 2019, a row a day: open, high, low, close, adjusted close, volume; windows of 24.

    The data of TimeGAN (Yoon, Jarrett, van der Schaar 2019, https://papers.nips.cc/paper/8789). The file is oldest
    first; in it close and adjusted close are equal, so there are five different columns.

    Deviations: the published preparation reverses the rows (so that time runs backwards), scales by the whole series,
    cuts overlapping windows in random order, leaves the last one out and holds nothing out: that is
    protocol=timegan reverse=true, 3,661 windows. By default the later fifth is for testing, with a gap before it.
    """

    Settings = StocksSettings

    name = "Stocks"

    def read(self) -> Record:
        path = find_file(self.name, self.settings.path, self.context, SOURCE)
        return to_record(read_table(path), Meaning(), self.name, self.context.notify)


@hookimpl
def register_datasets(register: Any) -> None:
    """Stocks."""
    register("Stocks", Stocks)
