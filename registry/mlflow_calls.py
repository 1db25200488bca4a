"""What every call to MLflow is wrapped in: its errors become ours, a refused race is asked again, its talk is off."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from halfsigma import StoreError


def again_if_refused(set_alias: Callable[[], None]) -> None:
    """Of two processes that set an alias which is not there yet, MLflow may refuse one: both insert its row.

    By then the row is there, and the second time is an update of it.
    """
    from mlflow.exceptions import MlflowException

    try:
        set_alias()
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        set_alias()


@contextmanager
def mapped_errors(uri: str) -> Iterator[None]:
    """Whatever MLflow, its database or the network raises becomes a `StoreError`, here and nowhere else."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(
            f"the MLflow store at {uri} failed: {first_line}",
            hint="check MLFLOW_TRACKING_URI, that the server runs and that its folder can be written; then run again",
        ) from error


def quieten() -> None:
    """MLflow and Alembic tell of every table they create; people who run a line do not want to read it."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
