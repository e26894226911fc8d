"""Mutants of a room: mutmut's operators on its code, without what only people and type checkers read."""

import difflib
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from mutmut.mutation.mutators import mutation_operators

SEED = 20

LEFT_OUT = (
    "docstrings, comments, annotations and type aliases, `__all__`, decorators, imports, `raise` and `warn` statements, "
    "texts (strings with a blank), arguments of `len`, `isinstance` and `cast`, code under `TYPE_CHECKING`"
)

_UNREAD = (
    m.Raise()
    | m.Annotation()
    | m.Decorator()
    | m.Import()
    | m.ImportFrom()
    | m.Subscript(value=m.Name("Literal"))
    | m.Assign(targets=[m.AssignTarget(target=m.Name("__all__"))])
    | m.Expr(value=m.SimpleString() | m.ConcatenatedString())
    | m.Call(func=m.Attribute(attr=m.Name("warn")))
    | m.Call(func=m.Name("len") | m.Name("isinstance") | m.Name("cast") | m.Name("TypeVar"))
    | m.SimpleString(value=m.MatchIfTrue(lambda text: " " in text))
    | m.If(test=m.Name("TYPE_CHECKING"))
)
_UNREAD_KINDS = (
    *(cst.Raise, cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Subscript, cst.Assign),
    *(cst.Expr, cst.Call, cst.SimpleString, cst.If),
)


@dataclass(frozen=True)
class Mutant:
    """One changed place of a file, and the whole changed text of the file."""

    name: str
    file: str
    line: int
    before: str
    after: str
    code: str = field(repr=False)


class _Places(cst.CSTVisitor):
    """Every node that may be changed, with what mutmut makes of it."""

    def __init__(self):
        self.found = []

    def on_visit(self, node):
        if isinstance(node, _UNREAD_KINDS) and m.matches(node, _UNREAD):
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                self.found.extend((node, changed) for changed in operator(node))
        return True


def mutants(root, room, *, count):
    """``count`` mutants of a room, and how many there are: those whose seeded digests come first.

    A change of one line of code leaves the others in the sample.
    """
    ranked = []
    for path in sorted((Path(root) / "src/eigencode" / room).glob("*.py")):
        module, places, seen = cst.parse_module(path.read_text()), _Places(), Counter()
        module.visit(places)
        for node, changed in places.found:
            words = (str(SEED), str(path.relative_to(root)), module.code_for_node(node), module.code_for_node(changed))
            seen[words] += 1
            digest = hashlib.sha256("\0".join((*words, str(seen[words]))).encode()).hexdigest()
            ranked.append((digest[:12], words[1], module, node, changed))
    ranked.sort(key=lambda entry: entry[0])
    sound = filter(None, (_mutant(*entry) for entry in ranked))
    return list(islice(sound, count)), len(ranked)


def _mutant(name, file, module, node, changed):
    """The mutant with the lines that it changes; None where it is not Python or changes nothing."""
    code = module.deep_replace(node, changed).code
    try:
        compile(code, file, "exec")
    except SyntaxError:
        return None
    old, new = module.code.splitlines(), code.splitlines()
    for tag, start, end, first, last in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            return Mutant(name, file, start + 1, _joined(old[start:end]), _joined(new[first:last]), code)
    return None


def _joined(lines):
    return " ".join(line.strip() for line in lines)
