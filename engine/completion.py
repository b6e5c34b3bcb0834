"""What a shell asks while a command is typed, and the scripts that make it ask; importing this needs click alone.

The scripts call the program itself, with the line so far in the environment; `answer` prints what may come next. That
never fails and never says anything else: what goes wrong here must not disturb what somebody is typing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

VARIABLE, LINE, BREAKS = "_GANGLION_COMPLETION", "_GANGLION_LINE", "_GANGLION_BREAKS"
SHELLS = ("bash", "zsh", "fish")
OPEN = ("=", ".", ",", "/", ":")  # what ends so is not a whole word yet
SCRIPTS = Path(__file__).parent / "templates"


class Word(click.types.StringParamType):
    """Text of which the index of names and keys knows what it may be."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """What may stand here."""
        from ganglion.engine.completionwords import candidates

        return candidates(ctx, str(param.name), incomplete)


class Completing(click.Command):
    """A command whose words and texts are completed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for param in self.params:
            if param.type is click.STRING:
                param.type = Word()


def script(shell: str) -> str:
    """The text that makes a shell complete `ganglion` and `learn`."""
    return (SCRIPTS / f"completion.{shell}.template").read_text(encoding="utf-8")


def answer(command: click.Command, name: str) -> None:
    """Print what may come next in the line that the shell asks about; nothing where that is not known."""
    try:
        shell, line = os.environ[VARIABLE], os.environ.get(LINE, "")
        words, incomplete = _split(line, name)
        items = ShellComplete(command, {}, name, VARIABLE).get_completions(words, incomplete)
        lines = _lines(items, incomplete, shell, os.environ.get(BREAKS, ""))
        sys.stdout.buffer.write("".join(f"{text}\n" for text in lines).encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
    except Exception:
        return


def _split(line: str, name: str) -> tuple[list[str], str]:
    """The words behind the program's name, and the last, which is being typed."""
    words = split_arg_string(line)
    incomplete = "" if not words or (line[-1:].isspace() and not line.endswith("\\ ")) else words.pop()
    own = next((place for place, word in enumerate(words) if Path(word).name == name), 0)
    return words[own + 1 :], incomplete


def _lines(items: list[CompletionItem[str]], incomplete: str, shell: str, breaks: str) -> list[str]:
    """First whether a blank follows, then one candidate in each line, for zsh and fish with what it means."""
    if not items:
        return []
    opened = any(item.nospace or item.value.endswith(OPEN) for item in items)
    values = [_whole(item.value, incomplete) for item in items]
    if shell == "bash":
        # bash replaces what follows the last of its own word breaks, '=' and ':' among them.
        cut = max((incomplete.rfind(sign) for sign in breaks if sign not in " \t\n\"'"), default=-1) + 1
        shown = [_quoted(value[cut:]) for value in values]
    else:
        shown = [f"{value}\t{_meaning(item.help)}" for value, item in zip(values, items, strict=True)]
    return ["nospace" if opened else "space", *shown]


def _whole(value: str, incomplete: str) -> str:
    """The whole word: click completes what stands behind the '=' of an option alone."""
    head, equals, _ = incomplete.partition("=")
    return f"{head}={value}" if equals and head.startswith("-") and not value.startswith("-") else value


def _quoted(value: str) -> str:
    return "".join(f"\\{sign}" if sign in " \t\"'\\$`&|;<>()[]{}*?!#" else sign for sign in value)


def _meaning(text: str | None) -> str:
    return "".join(sign for sign in " ".join((text or "").split()) if sign.isprintable())[:80]
