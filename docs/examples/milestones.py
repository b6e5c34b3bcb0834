"""A trace: learn --plugin milestones.py Generator,Discriminator Circle strategy=NSGAN traces=lines,milestones"""

import csv

from ganglion.engine import api
from ganglion.engine.trace import CheckpointStored, TracePoint


class Milestones(api.Trace):
    """Writes a line into milestones.csv, in the run's directory, for every checkpoint: the progress at that point."""

    class Settings(api.Settings):
        file: str = api.setting("milestones.csv", "name of the file in the run's directory")

    def __init__(self, settings, context):
        self.path = context.directory / settings.file
        self.last = {}

    def receive(self, event):
        if isinstance(event, TracePoint):
            self.last = dict(event.values)
        elif isinstance(event, CheckpointStored):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([event.iteration, *self.last.values()])


@api.hookimpl
def register_traces(register):
    register("milestones", Milestones)
