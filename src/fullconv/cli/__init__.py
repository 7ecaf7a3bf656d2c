"""The command `fullconv`: one file a command, heavy imports inside the functions. Road: the door, above everything."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from fullconv.base.errors import FullconvError
from fullconv.base.memory import keep_freed_memory

COMMANDS = {
    "demo": "fullconv.cli.demo",
    "run": "fullconv.cli.run",
    "data": "fullconv.cli.data",
    "study": "fullconv.cli.study",
    "evaluate": "fullconv.cli.evaluate",
    "predict": "fullconv.cli.predict",
    "classify": "fullconv.cli.classify",
    "inspect": "fullconv.cli.inspect",
    "convert": "fullconv.cli.convert",
    "dense": "fullconv.cli.dense",
    "caffe": "fullconv.cli.caffe",
}

CHECKPOINTS = ("demo", "run")
"""Commands that keep them, beside any that is given --run."""


class Commands(click.Group):
    """Imports a command's file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the road."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fullconv")
def cli() -> None:
    """From a folder of photos and label maps to a measured segmenter.

    Any command takes --debug, which shows the traceback of an error. Shell completion:
    eval "$(_FULLCONV_COMPLETE=bash_source fullconv)"
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 could not be done, 2 the command was wrong, 130 stopped by Ctrl-C."""
    # torch's threads spin for microseconds, then sleep: spinning longer they fight over the cores with whatever else
    # runs, and lose; never spinning costs a tenth (docs/log.md)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    keep_freed_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    sys.exit(_run([word for word in words if word != "--debug"], debug))


def _run(words: list[str], debug: bool) -> int:
    try:
        code = cli.main(words, prog_name="fullconv", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except FullconvError as error:
        return _failed(str(error), error.exit_code, debug)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        return _failed(_usage(error), 2, debug)
    except (KeyboardInterrupt, click.Abort):
        trains = bool(words) and (words[0] in CHECKPOINTS or any(word.split("=")[0] == "--run" for word in words))
        goes_on = "; the same command goes on from the last checkpoint" if trains else ""
        click.echo(f"\nstopped{goes_on}", err=True)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        what = f"{type(error).__name__}: {error}".strip().replace("\n", " ")
        text = (
            f"error: this should not have happened\nfound: {what}\ntry:   the same command with --debug, and "
            "report what it prints"
        )
        return _failed(text, 1, debug)


def _failed(text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(text, err=True)
    return code


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "fullconv"
    found = error.format_message().replace("\n", " ")
    return f"error: the command must be as its help says\nfound: {found}\ntry:   {command} --help"
