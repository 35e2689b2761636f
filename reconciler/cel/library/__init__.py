"""The functions of the language: cel-spec's standard ones, the libraries of Kubernetes 1.36, and ours."""

from reconciler.cel.library.encoders import ENCODERS
from reconciler.cel.library.formats import FORMATS
from reconciler.cel.library.formatting import FORMATTING
from reconciler.cel.library.lists import LISTS, SETS, SLICES
from reconciler.cel.library.network import NETWORK
from reconciler.cel.library.numbers import MATH
from reconciler.cel.library.optionals import OPTIONALS
from reconciler.cel.library.quantities import QUANTITIES
from reconciler.cel.library.regexes import REGEXES
from reconciler.cel.library.standard import STANDARD
from reconciler.cel.library.strings import STRINGS
from reconciler.cel.library.table import Functions
from reconciler.cel.library.urls import URLS
from reconciler.cel.library.versions import VERSIONS
from reconciler.cel.operators import OPERATORS

TABLES = (
    OPERATORS,
    STANDARD,
    STRINGS,
    FORMATTING,
    REGEXES,
    LISTS,
    SLICES,
    SETS,
    OPTIONALS,
    URLS,
    QUANTITIES,
    NETWORK,
    VERSIONS,
    FORMATS,
    MATH,
    ENCODERS,
)
"""Every library, in the order of the documentation."""
FUNCTIONS = Functions(overload for table in TABLES for overload in table.overloads)

__all__ = ["FUNCTIONS", "TABLES"]
