"""The command line: parse -> configuration -> library call -> record. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import re
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile

from eigencode import __version__, _signals
from eigencode._allocator import keep_freed_memory
from eigencode._grammar import fraction_in
from eigencode._parsing import Parser, misread
from eigencode._readers.yaml import dump_yaml, has_tag, read_yaml
from eigencode._text import printable
from eigencode._wording import plain_message
from eigencode.commands.checking import check_options, in_full, numbers_of, switches_of
from eigencode.commands.options import (
    AttackConfig,
    ConstructConfig,
    DoctorConfig,
    MeasureConfig,
    ReportConfig,
    ReproduceConfig,
    ResultsConfig,
    StudyConfig,
    TrainConfig,
)
from eigencode.commands.renamed import present_values, present_words, told_as_notes
from eigencode.errors import FIT_THE_NETWORK, EigencodeError, FileError, UsageError

EXIT_FAILURE, EXIT_USAGE = 1, 2

_LONGEST_NAME = 100


class _Parser(Parser):
    """A parser whose errors are one line, without the list of all options."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what was wrong and where help is, and leaves with status 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        command = parser.prog.replace(" [options]", "")
        place, what = plain_message(message)
        if unknown := re.match(r"unrecognized arguments: (--[\w.]+)", what):
            close = difflib.get_close_matches(unknown[1], parser._option_string_actions, n=1)
            what += f". Did you mean {close[0]}?" if close else ""
        what = what if what.endswith("?") else f"{what.rstrip('.')}."
        positionals = {name for config, _ in _COMMANDS.values() for name in getattr(config, "positionals", ())}
        option = place if place in positionals or not place else f"--{place}"
        print(f"eigencode: {printable(': '.join(filter(None, (option, what))))} See: {command} --help", file=sys.stderr)
        sys.exit(EXIT_USAGE)


def build_parser(command: str | None = None) -> Parser:
    """Parser of all commands, made from their configuration classes.

    Args:
        command: The one whose options are needed, which saves the time for those of the others. Default: all.
    """
    parser = _Parser(
        prog="eigencode",
        allow_abbrev=False,
        description="Measures the eigenspectrum of neural codes, layer by layer, and what perturbations and attacks do to it.",
        version=__version__,
    )
    commands = parser.add_subcommands(required=True, dest="command", metavar="COMMAND")
    for name, (config, _) in _COMMANDS.items():
        lines = (config.__doc__ or "").split("\n\n")[0]
        sub = _Parser(description=lines, allow_abbrev=False)
        if command in (None, name):
            _add_options(sub, config)
        commands.add_subcommand(name, sub, help=lines)
    return parser


def _add_options(parser: Parser, config: Any) -> None:
    """The options of a configuration class."""
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the options below.")
    explained, groups = _explained(config), _groups_of(config)
    positionals = getattr(config, "positionals", ())
    for option in positionals:
        kind = get_type_hints(config)[option]  # without a default, which would take the place of what --config says
        parser.add_argument(option, nargs="?", type=kind, default=SUPPRESS, help=explained.get(option))
    parser.add_class_arguments(config, nested_key=None, skip=set(positionals))
    for action in parser._actions:
        if action.dest in groups:
            action.help = SUPPRESS  # it would read a file


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: Words of the command line; default: those of the process.

    Returns:
        Exit status: 0, 1 for a failure, 2 for options that make no sense, 130, 143 or 129 when interrupted.
    """
    _make_printable()
    with told_as_notes():
        try:
            options = _parsed(_file_first(_normalised(present_words(sys.argv[1:] if arguments is None else arguments))))
        except EigencodeError as error:
            print(f"eigencode: {printable(error)}", file=sys.stderr)
            return EXIT_USAGE
        return _run(options)


def _how_to_fit(data: str) -> str:
    """What can be done about inputs of such a source that a network does not take."""
    if data.startswith("image"):
        return " Options for images: --image_size, --transform, --grey."
    if data.startswith("tokens:"):
        return ""
    folder = " To change the images, save them in a folder: --image_size, --transform and --grey are read with image_folder:PATH."
    return folder if ":" not in data else f"{folder} What is no image: measure it from Python, ec.measure(model, inputs)."


def _run(options: Any) -> int:
    config_class, module = _COMMANDS[options.command]
    values = {key: value for key, value in vars(options[options.command]).items() if key != "config"}
    keep_freed_memory()
    try:
        config = in_full(config_class(**values))
        check_options(config)
        import_module(module).run(config)
        _signals.give_up()  # all is done and said
    except UsageError as error:
        print(f"eigencode: {printable(error)}", file=sys.stderr)
        return EXIT_USAGE
    except EigencodeError as error:
        also = _how_to_fit(str(values["data"])) if FIT_THE_NETWORK in str(error) and "data" in values else ""
        print(f"eigencode: {printable(error)}{also}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt as interruption:
        print(f"eigencode: interrupted; {printable(interruption) or 'nothing was written.'}", file=sys.stderr)
        return _signals.exit_status()
    except SystemExit as ended:  # of a network's own code
        print(
            f"eigencode: the network's code ended the program (exit status {ended.code}). Fix its forward method.",
            file=sys.stderr,
        )
        return EXIT_FAILURE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # of a file or folder that no reader or writer speaks of itself
        print(f"eigencode: {printable(_of_file(error))}", file=sys.stderr)
        return EXIT_FAILURE
    return 0


def _make_printable() -> None:
    """Sees to it that results can be printed where there is no stdout, and where it cannot show every character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _parsed(words: Sequence[str]) -> Any:
    """Options that are right by themselves.

    Raises:
        UsageError: they are not text, or a file of options cannot be read.
        EigencodeError: settings that refuse themselves.
    """
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise UsageError("options must be text in UTF-8; got other bytes. Write them anew.") from None
    words = _files_read(words)
    _check_values(words)
    parser = build_parser(words[0] if words and words[0] in _COMMANDS else None)
    try:
        return parser.instantiate(parser.parse_args(words))
    except TypeError:  # of jsonargparse, which takes null for a group of options and fails later
        raise UsageError("--config: a group of options is null. Leave it out for its defaults.") from None


def _of_file(error: OSError) -> str:
    """What the system says of a file, in one sentence."""
    reason = error.strerror or str(error).splitlines()[0] or type(error).__name__
    if error.filename is None:
        return f"the system refused ({reason})."
    name = str(error.filename)
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    return f"{shown} cannot be used ({reason}). Name another file or folder, or fix this one."


def _explained(config: Any) -> dict[str, str]:
    """Name -> what the docstrings of a configuration class say about it, or else those of its parents."""
    documented = (
        parameter for base in reversed(config.__mro__) for parameter in docstring_parser.parse(base.__doc__ or "").params
    )
    return {parameter.arg_name: parameter.description or "" for parameter in documented}


def _normalised(words: Sequence[str]) -> list[str]:
    """--data-root is --data_root, a bare --json is --json=true, and --step_size 2/255 is the number that this is."""
    normalised = []
    command = next((word for word in words if word in _COMMANDS), None)
    switches = switches_of(_COMMANDS[command][0]) if command else set()
    numbers = numbers_of(_COMMANDS[command][0]) if command else set()
    flag = ""
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word.startswith("--"):
            flag, equals, value = word[2:].partition("=")
            flag = flag.replace("-", "_")
            word = f"--{flag}{equals}{fraction_in(value) if flag in numbers else value}"
            if flag in switches and not equals and following not in ("true", "false"):
                word += "=true"
        else:
            word = str(fraction_in(word)) if flag in numbers else word
            flag = ""  # which has its value
        normalised.append(word)
    return normalised


def _file_first(words: list[str]) -> list[str]:
    """--config right after the command, so that whatever else is given on the command line takes the place of what it says."""
    files, others = list[str](), list[str]()
    rest = iter(words[1:])
    for word in rest:
        if word == "--config":
            files += [word, *itertools.islice(rest, 1)]
        else:
            (files if word.startswith("--config=") else others).append(word)
    return [*words[:1], *files, *others]


def _files_read(words: Sequence[str]) -> list[str]:
    """The words, with the text of a file of options in its place if some have other names now.

    Raises:
        UsageError: no such file, a binary one, or one whose values have no end, before anything else reads it.
    """
    read = []
    for before, word in itertools.pairwise(["", *words]):
        option, path = ("--config=", word[9:]) if word.startswith("--config=") else ("", word if before == "--config" else "")
        read.append(f"{option}{_with_present_names(words[0], path)}" if path else word)
    return read


def _with_present_names(command: str, path: str) -> str:
    """The path of a file of options, or its text with the names that options have now."""
    try:
        values = read_yaml(Path(path))
        if isinstance(values, dict) and "config" in values:
            raise UsageError(f"--config: {path} names another file of options. Write its options into this one.")
        present = present_values(command, values)
        _refuse_misread([command], present)
        return path if present == values else dump_yaml(present)
    except FileError as error:
        raise UsageError(f"--config: {error}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UsageError(f"--config: {path} is not a YAML file ({reason}). Write options as `name: value`.") from None


def _check_values(words: Sequence[str]) -> None:
    """Refuses what the parser would take for a file of a group of options, or for YAML that names kinds of values.

    Raises:
        UsageError: one of these.
    """
    groups = _groups_of(_COMMANDS[words[0]][0]) if words and words[0] in _COMMANDS else {}
    flag = ""
    for word in words:
        flag, _, value = word.partition("=") if word.startswith("--") else (flag, "", word)
        nested: Any = value
        for name in reversed(flag.removeprefix("--").split(".")):
            nested = {name: nested}
        _refuse_misread(words, nested)
        if (group := flag.removeprefix("--")) in groups:
            raise UsageError(
                f"{flag} stands for several options. Name them, such as {flag}.{groups[group]}, or a file of all options with "
                "--config."
            )
        if has_tag(value):
            raise UsageError(f"{value} has a YAML tag, which options do not take. Write the value alone.")


def _refuse_misread(words: Sequence[str], values: Any) -> None:
    for name, text in misread(_COMMANDS[words[0]][0], values) if words and words[0] in _COMMANDS else ():
        raise UsageError(f"--{name}: expected a decimal number; got {text}.")


def _groups_of(config: Any) -> dict[str, str]:
    """Name of each group of options -> its first one."""
    hints = get_type_hints(config)
    return {name: dataclasses.fields(hint)[0].name for name, hint in hints.items() if dataclasses.is_dataclass(hint)}


_COMMANDS: dict[str, tuple[Any, str]] = {
    "measure": (MeasureConfig, "eigencode.commands.measure"),
    "attack": (AttackConfig, "eigencode.commands.attack"),
    "train": (TrainConfig, "eigencode.commands.train"),
    "construct": (ConstructConfig, "eigencode.commands.construct"),
    "study": (StudyConfig, "eigencode.commands.study"),
    "reproduce": (ReproduceConfig, "eigencode.commands.reproduce"),
    "report": (ReportConfig, "eigencode.commands.report"),
    "results": (ResultsConfig, "eigencode.commands.results"),
    "doctor": (DoctorConfig, "eigencode.commands.doctor"),
}
