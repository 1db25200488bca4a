"""What people read is what was said: no text of a user is taken for markup."""

from __future__ import annotations

import pytest

from flows.history import history_for_people
from flows.output import facts, rows_table


def test_brackets_in_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    facts({"image": "part[red]x.png", "many": ["[/b]"]})
    rows_table([{"image": "a[bold]b.png"}], ["image"])
    history_for_people({"explanation": "promoted by [/b]", "time_zone": "UTC", "deployments": [], "judgements": []})
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("part[red]x.png", "a[bold]b.png", "[/b]", "promoted by [/b]"))
