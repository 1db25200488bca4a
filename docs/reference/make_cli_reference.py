"""Write docs/reference/cli.md from the command line's own declarations, so that it cannot go stale.

.venv/bin/python docs/reference/make_cli_reference.py            writes the page
.venv/bin/python docs/reference/make_cli_reference.py --check    exit status 1 if the page is not what would be written
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = Path(__file__).with_name("cli.md")
COMMAND = "halfsigma"
sys.path.insert(0, str(ROOT))  # also from a checkout that is not installed


def page() -> str:
    """The whole page, from the application that `flows.cli` declares."""
    import typer

    from flows.cli import app

    group: Any = typer.main.get_command(app)
    context = group.make_context(COMMAND, [], resilient_parsing=True)
    names = group.list_commands(context)
    commands = [group.get_command(context, name) for name in names]
    parts = [
        "# The command line",
        "<!-- Made by docs/reference/make_cli_reference.py: do not edit, run it again. -->",
        str(group.help),
        "Exit status: 0 done, 1 error, 2 wrong usage, 130 interrupted. With `--json` a command prints exactly one JSON document on "
        'stdout, on an error `{"error": {"type", "message", "hint"}}`; progress and logs go to stderr. '
        "`halfsigma --version` shows the version. Settings come from the environment: "
        "[installation](../how-to/installation.md#settings).",
        _table(
            ("command", "what it does"),
            [(f"[`{each.name}`](#{each.name})", str(each.help).splitlines()[0]) for each in commands],
        ),
        *(_command(each) for each in commands),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _command(command: Any) -> str:
    shown = [parameter for parameter in command.params if parameter.name != "help"]
    positional = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    words = [COMMAND, command.name, *(_placeholder(each) for each in positional)]
    required = [f"{each.opts[0]} {_placeholder(each)}" for each in options if each.required]
    optional = ["[OPTIONS]"] if any(not each.required for each in options) else []
    usage = " ".join([*words, *required, *optional])
    rows = [(_names(each), _help(each), _default(each)) for each in [*positional, *options]]
    return f"## {command.name}\n\n{command.help}\n\n    {usage}\n\n" + _table(("", "meaning", "default"), rows)


def _placeholder(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_placeholder(parameter)}`"
    joined = ", ".join(parameter.opts)
    return f"`{joined}`" if parameter.is_flag else f"`{joined} {_option_value(parameter)}`"


def _option_value(parameter: Any) -> str:
    return str(parameter.metavar or parameter.type_descriptor.annotation.__name__.upper())


def _help(parameter: Any) -> str:
    text = str(parameter.help or "")
    return f"{text} May be given several times." if getattr(parameter, "multiple", False) else text


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.is_flag:
        return ""
    return f"`{parameter.default}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    wanted = page()
    if not options.check:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found == wanted:
        return 0
    sys.stderr.writelines(
        difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), "docs/reference/cli.md", "flows/cli.py")
    )
    sys.stderr.write("\ndocs/reference/cli.md is stale: run python docs/reference/make_cli_reference.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
