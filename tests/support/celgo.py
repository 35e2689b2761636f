"""Kubernetes' own engine as an oracle: the program of `tests/cluster/parts/cel`, and values in its form."""

import json
import struct
import subprocess

from reconciler.cel import CelError, moments, source
from reconciler.cel.compiler import Compiler
from reconciler.cel.error import Interrupt
from reconciler.cel.library.network import CIDR, IP
from reconciler.cel.program import Program
from reconciler.cel.scope import Environment
from reconciler.cel.values import Foreign, Message, Optional, TypeName, Uint, keys_of, type_of
from tests.cluster.node.build import program

ENVIRONMENT = Environment.of(("object", "params"))


def ask(questions):
    """The answers to (expression, variables), in order: dictionaries with stage, error, value and cost."""
    lines = [json.dumps({"expression": text, "variables": given}) for text, given in questions]
    made = subprocess.run(
        [program("cel")], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in made.stdout.splitlines()]


def ours(text, given):
    """Our answer in the same form."""
    try:
        compiler = Compiler(text, ENVIRONMENT)
        part = compiler.part(source.parse(text))
    except CelError as error:
        return {"stage": "compile", "error": str(error), "cost": 0}
    compiled = Program(text, part=part, slots=compiler.scope.slots)
    frame = compiled.frame(given)
    before = frame.left
    try:
        value = part.run(frame)
    except Interrupt as error:
        return {"stage": "evaluate", "error": error.message, "cost": before - frame.left}
    return {"stage": "value", "value": tagged(value), "cost": before - frame.left}


def tagged(value):
    """A value with its type, as the program writes it."""
    match value:
        case None:
            return ["null"]
        case bool():
            return ["bool", value]
        case Uint():
            return ["uint", str(int(value))]
        case int():
            return ["int", str(value)]
        case float():
            if value != value:
                return ["double", "NaN"]
            bits = struct.unpack("<Q", struct.pack("<d", value))[0]
            return ["double", f"{bits:x}"]
        case str():
            return ["string", value]
        case bytes():
            import base64

            return ["bytes", base64.b64encode(value).decode()]
        case moments.Timestamp():
            return ["timestamp", moments.write_timestamp(value)]
        case moments.Duration():
            return ["duration", str(value.nanos)]
        case TypeName():
            return ["type", value.name]
        case Optional():
            return ["optional", tagged(value.value)] if value.is_present else ["optional"]
        case Message():
            made = {key: one for key, one in value.items() if key != "value"}
            if "value" in value:
                made["value"] = tagged(value["value"])
            return [value.type_name, made]
        case list():
            return ["list", [tagged(one) for one in value]]
        case dict():
            pairs = zip(keys_of(value), value.values(), strict=True)
            made = [[tagged(key), tagged(one)] for key, one in pairs]
            return ["map", sorted(made, key=lambda pair: _printed(pair[0]))]
        case IP():
            return ["net.IP", str(value.address)]
        case CIDR():
            return ["net.CIDR", f"{value.address}/{value.bits}"]
        case Foreign():
            return [type_of(value)]
    raise TypeError(type(value))


def _printed(tag):
    inside = " ".join(str(one).lower() if isinstance(one, bool) else str(one) for one in tag)
    return f"[{inside}]"
