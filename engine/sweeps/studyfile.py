"""The trials of a sweep in their SQLite file, `study.db`: an Optuna study, which other programs can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganglion.engine.errors import StoreError
from ganglion.engine.sweeps.study import Drawing, State, Trial, quietly

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

STUDY = "sweep"  # its name in the file


class StudyFile:
    """The trials in their SQLite file, which is an Optuna study like any other."""

    def __init__(self, storage: RDBStorage, number: int, path: Path) -> None:
        self._storage, self._number, self.path = storage, number, path

    @classmethod
    @contextmanager
    def opened(cls, path: Path, lower: bool) -> Iterator[StudyFile]:
        """The study, made where there is none. Raises StoreError."""
        import sqlite3

        from optuna.storages import RDBStorage
        from optuna.study import StudyDirection

        with explained(path), quietly():
            # The path does not become an address, in which some of its signs would mean something.
            storage = RDBStorage("sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(path), **_pool()})
            direction = StudyDirection.MINIMIZE if lower else StudyDirection.MAXIMIZE
            try:
                number = storage.get_study_id_from_name(STUDY)
            except KeyError:
                number = storage.create_new_study([direction], STUDY)
        try:
            yield cls(storage, number, path)
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def asked(self) -> dict[str, Any]:
        """What the sweep was begun with; nothing where it is new. Raises StoreError."""
        with explained(self.path):
            return dict(self._storage.get_study_user_attrs(self._number).get("asked", {}))

    def ask(self, asked: Mapping[str, Any]) -> None:
        """Keep what the sweep is begun with. Raises StoreError."""
        with explained(self.path):
            self._storage.set_study_user_attr(self._number, "asked", dict(asked))

    def trials(self) -> list[Trial]:
        """All trials, in order. Raises StoreError."""
        from optuna.trial import TrialState

        states: dict[Any, State] = {
            TrialState.COMPLETE: "finished",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        with explained(self.path):
            return [
                Trial(
                    each.number,
                    dict(each.params),
                    states.get(each.state, "running"),
                    each.value if each.state is TrialState.COMPLETE else None,
                    dict(each.intermediate_values),
                    dict(each.user_attrs.get("facts", {})),
                    dict(each.user_attrs.get("marks", {})),
                )
                for each in self._storage.get_all_trials(self._number, deepcopy=False)
            ]

    def add(self, drawing: Drawing, trial: Trial) -> None:
        """Keep a trial that is about to begin: all of it or nothing. Raises StoreError."""
        with explained(self.path), quietly():
            self._storage.create_new_trial(self._number, drawing.frozen(trial))

    def end(self, trial: Trial) -> None:
        """Keep what became of a trial; its state comes last, so that what is cut short is done again."""
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        storage = self._storage
        with explained(self.path), quietly():
            own = storage.get_trial_id_from_study_id_trial_number(self._number, trial.number)
            for step, value in trial.steps.items():
                storage.set_trial_intermediate_value(own, step, value)
            storage.set_trial_user_attr(own, "facts", trial.facts)
            storage.set_trial_user_attr(own, "marks", trial.marks)
            values = [trial.value] if trial.value is not None else None
            storage.set_trial_state_values(own, states[trial.state], values)


def _pool() -> dict[str, Any]:
    from sqlalchemy.pool import NullPool

    return {"poolclass": NullPool}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file into one sentence. Raises StoreError."""
    import sqlite3

    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OptunaError, KeyError) as error:
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()
        reason = cause[0] if cause else type(error).__name__
        raise StoreError(f"{path}: not the study of a sweep, or it cannot be used now ({reason})") from error
