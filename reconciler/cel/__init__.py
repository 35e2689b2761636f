"""The expression engine: CEL, checked before it runs, bounded while it runs."""

from reconciler.cel.error import CelError
from reconciler.cel.program import Program, compile_expression

__all__ = ["CelError", "Program", "compile_expression"]
