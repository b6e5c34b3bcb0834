"""Energy: a house's appliances, rooms and weather every ten minutes, in windows of four hours."""

from __future__ import annotations

from typing import Any

from ganglion.datasets.series.cutting import SeriesSettings
from ganglion.datasets.series.preparing import SeriesFactory
from ganglion.datasets.series.reading import find_file, read_table
from ganglion.datasets.series.record import Record
from ganglion.datasets.series.recording import Meaning, to_record
from ganglion.engine.api import hookimpl, setting

SOURCE = "the UCI Machine Learning Repository has it as 'Appliances energy prediction', number 374"


class EnergySettings(SeriesSettings):
    """Settings of Energy."""

    path: str = setting("energy/energydata_complete.zip", "the CSV file, zipped or not, as it is or below a folder")


class Energy(SeriesFactory):
    """Appliances energy (UCI, Candanedo 2017): 19,735 rows at ten minutes' distance of 28 columns; windows of 24.

    The last two columns, rv1 and rv2, are the same uniform random number, put there on purpose to test the choice of
    features: nothing can predict the last column, whatever a predictive score says.

    Deviations: see Stocks; protocol=timegan gives the 19,711 windows of TimeGAN's preparation.
    """

    Settings = EnergySettings

    name = "Energy"

    def read(self) -> Record:
        path = find_file(self.name, self.settings.path, self.context, SOURCE)
        return to_record(read_table(path), Meaning(time="date"), self.name, self.context.notify)


@hookimpl
def register_datasets(register: Any) -> None:
    """Energy."""
    register("Energy", Energy)
