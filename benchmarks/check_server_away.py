"""Is a promotion under which MLflow's server dies made once, with its audit, when the server is back after ten minutes?

    python -m benchmarks.check_server_away --minutes 10

Three lines on real tiles, blurred by 2 px from their first night on, and an MLflow server in a process of its own over
SQLite. On `manual` a challenger waits for a person: the server is killed by SIGKILL in the middle of her promotion, after
`champion` was moved and before `previous` was. On `auto` the blurred night comes while the server is away, so its retrain
has nothing to register the challenger with. On `shadow` a challenger scores along before and has its last night while the
server is away. Every minute a person tries again, by the command line. Then the server is started again. Exit status 1 if
a line has two champions or none, or a change without its entry in the audit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mlflow import MlflowClient

from detectors.photographs.images import list_images
from flows.settings import Settings
from flows.workspace import open_workspace
from halfsigma import StoreError
from registry import lines, promotion
from registry.new_version import model_name
from registry.store import MlflowStore
from tests.acceptance.mlflow_server import Server
from tests.acceptance.station import ROOT, Station

TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"
N_FIT, N_NIGHT = 100, 150
BLUR_SIGMA_PX = 2.0
FIRST_NIGHT, SECOND_NIGHT = "2026-08-01", "2026-08-02"
MANUAL, AUTO, SHADOW = "manual", "auto", "shadow"
EVERY_LINE = (MANUAL, AUTO, SHADOW)
SEED = 20261125


class DiesUnderIt(MlflowStore):
    """A store whose server is killed when the champion's alias was moved and ``previous`` is about to be."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.url)
        self._server = server

    def set_alias(self, line: str, alias: str, number: int | None) -> None:
        if alias == "previous":
            self._server.stop()
        super().set_alias(line, alias, number)


class Told:
    """What happened, row by row, and whether it was what should have."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.all_well = True
        print("| minute | what | seen | as it should be |\n|---|---|---|---|", flush=True)

    def row(self, what: str, seen: object, *, well: bool) -> None:
        self.all_well &= well
        minute = (time.monotonic() - self._started) / 60.0
        print(f"| {minute:.1f} | {what} | {seen} | {'yes' if well else '**no**'} |", flush=True)


def write_images(folder: Path) -> None:
    """Disjoint goods: as they are, to fit on, and two nights through a blurred lens."""
    goods = list_images(TILES / "good")
    order = iter(np.random.default_rng(SEED).permutation(len(goods)).tolist())
    for name, n, blurred in (("fit", N_FIT, False), (FIRST_NIGHT, N_NIGHT, True), (SECOND_NIGHT, N_NIGHT, True)):
        (folder / name).mkdir()
        for index in range(n):
            image = np.asarray(cv2.imread(str(goods[next(order)]), cv2.IMREAD_GRAYSCALE))
            seen = cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA_PX) if blurred else image
            cv2.imwrite(str(folder / name / f"{index:03d}.png"), seen)


def prepare(station: Station, images: Path, told: Told) -> None:
    """All lines deployed; on `MANUAL` a challenger waits, on `SHADOW` one scores along."""
    for line in EVERY_LINE:
        station("fit", line, "--good", images / "fit", "--detector", "padim")
        station("configure", line, "--policy", line, *(("--shadow-nights", 1) if line == SHADOW else ()))
    for line, expected in ((MANUAL, "waiting"), (SHADOW, "shadow")):
        station("ingest", line, images / FIRST_NIGHT, "--night", FIRST_NIGHT)
        (night,) = station("nightly", "--night", FIRST_NIGHT, "--line", line)["lines"]
        state = (night["retrain"] or {}).get("state")
        told.row(
            f"`nightly` on {line}, server up", f"retrain {state}, champion {night['champion']}", well=state == expected
        )


def die_under_a_promotion(settings: Settings, server: Server, told: Told) -> None:
    with open_workspace(settings) as workspace, workspace.database.session() as session:
        try:
            promotion.promote(
                session,
                lines.get_line(session, MANUAL),
                DiesUnderIt(server),
                2,
                replaces=1,
                actor="ann",
                document={"reason": "ann wants it"},
                cache=workspace.cache,
            )
            seen = "promoted"
        except StoreError as error:
            seen = f"StoreError: {error.message.split(':')[0]} …"
    told.row("ann promotes version 2, the server is killed before `previous` moves", seen, well=seen != "promoted")


def live_without_it(station: Station, images: Path, *, minutes: float, told: Told) -> None:
    """A night comes and goes, and every minute a person tries to promote."""
    until = time.monotonic() + 60.0 * minutes
    for line, day in ((AUTO, FIRST_NIGHT), (SHADOW, SECOND_NIGHT)):
        ingested = station.answer("ingest", line, images / day, "--night", day)
        told.row(
            f"`ingest` on {line}",
            f"{ingested.get('n_new')} by version {ingested.get('version')}",
            well=ingested.get("n_new") == N_NIGHT,
        )
    nights = station("nightly", "--night", FIRST_NIGHT)["lines"]
    nights += station("nightly", "--night", SECOND_NIGHT, "--line", SHADOW)["lines"]
    for night in nights:
        retrain = night["retrain"] or {}
        seen = f"{(night['check'] or {}).get('verdict')}, retrain {retrain.get('state')}, champion {night['champion']}"
        told.row(
            f"`nightly` on {night['line']}", seen, well=night["champion"] == 1 and retrain.get("state") != "promoted"
        )
    n_tries = n_refused = n_watched = 0
    while True:
        n_tries += 1
        n_refused += "error" in station.answer("promote", MANUAL, "--version", "2", "--by", "ann")
        n_watched += all(line["champion"] == 1 for line in station("status")["lines"])
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        time.sleep(min(left_s, 60.0))
    told.row("`promote`, every minute", f"{n_refused} of {n_tries} refused", well=n_refused == n_tries)
    told.row("`status`, every minute", f"champion 1 in {n_watched} of {n_tries}", well=n_watched == n_tries)


def go_on(station: Station, told: Told) -> None:
    """What was begun is finished, and said again it changes nothing."""
    for _ in range(2):
        promoted = station("promote", MANUAL, "--version", "2", "--by", "ann")
        told.row(
            "server up; ann promotes version 2",
            f"champion {promoted.get('champion')}",
            well=promoted.get("champion") == 2,
        )
    for line, day in ((AUTO, FIRST_NIGHT), (SHADOW, SECOND_NIGHT)) * 2:
        (night,) = station("nightly", "--night", day, "--line", line)["lines"]
        state = (night["retrain"] or {}).get("state")
        told.row(f"`nightly` on {line}", f"retrain {state}, champion {night['champion']}", well=night["champion"] == 2)


def count_changes(station: Station, server: Server, told: Told) -> None:
    client = MlflowClient(tracking_uri=server.url)
    for line in EVERY_LINE:
        aliases = {alias: int(n) for alias, n in client.get_registered_model(model_name(line)).aliases.items()}
        told.row(f"{line}: aliases by MLflow's client", aliases, well=aliases == {"champion": 2, "previous": 1})
        changes = [(each["action"], each["version"]) for each in station("history", line)["deployments"]]
        told.row(f"{line}: the audit's changes", changes, well=changes == [("deployed", 1), ("promoted", 2)])
        kinds = [alert["kind"] for alert in station("alerts")["alerts"] if alert["line"] == line]
        told.row(f"{line}: told", ", ".join(reversed(kinds)), well=kinds.count("promoted") == 1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="How long the server is away.")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        images, served, home = (Path(folder, name) for name in ("images", "mlflow", "home"))
        for each in (images, served, home):
            each.mkdir()
        write_images(images)
        server = Server(served)
        settings = Settings(home, f"sqlite:///{home / 'halfsigma.db'}", server.url)
        station, told = Station(home, MLFLOW_TRACKING_URI=server.url), Told()
        try:
            server.start()
            prepare(station, images, told)
            die_under_a_promotion(settings, server, told)
            gone = time.monotonic()
            live_without_it(station, images, minutes=options.minutes, told=told)
            told.row("the server was away", f"{(time.monotonic() - gone) / 60.0:.1f} minutes", well=True)
            server.start()
            go_on(station, told)
            count_changes(station, server, told)
        finally:
            server.stop()
    print(f"\n{'as it should be' if told.all_well else 'NOT as it should be'}")
    return 0 if told.all_well else 1


if __name__ == "__main__":
    sys.exit(main())
