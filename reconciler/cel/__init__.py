"""The expression engine: CEL, checked before it runs, bounded while it runs."""

from reconciler.cel.error import CelError
from reconciler.cel.program import Program, compile_expression
from reconciler.cel.values import Lazy

__all__ = ["CelError", "Lazy", "Program", "compile_expression"]
