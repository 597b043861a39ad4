"""What a shell reads to complete the words of the command line."""

import argparse
from collections.abc import Callable

from waldo_utils.disk.paths import given


def add(parser: argparse.ArgumentParser, parser_of: Callable[[str], argparse.ArgumentParser]) -> None:
    """Add the option that prints it.

    Args:
        parser: of the command line.
        parser_of: makes the parser of a program's name; the completion is that of `waldo`, for a shell
            completes programs and no modules of Python.
    """

    class Print(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, _: object, shell: str, *more: object) -> None:
            import shtab

            print(shtab.complete(_with_paths(parser_of("waldo")), shell))
            parser.exit()

    parser.add_argument(
        "--print-completion",
        action=Print,
        choices=("bash", "zsh", "tcsh"),
        help="print what this shell reads to complete words",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        f'to complete the words of `waldo` by the tab key:\n  eval "$({parser.prog} --print-completion bash)"'
    )


def _with_paths(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return a parser that has told of each argument that is a path."""
    import shtab

    for action in parser._actions:
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                _with_paths(command)
        if action.type is given:
            action.complete = shtab.FILE  # folders too
    return parser
