"""Applications that the main job is shown on; `ALL` names them."""

from tests.cluster.applications.accounts import BOUND, TOKENS
from tests.cluster.applications.definitions import CERTIFIED, HELD, ROUTED
from tests.cluster.applications.extremes import DOUBLED, HEAVY, LONG, THOUSAND
from tests.cluster.applications.jobs import SCHEDULED
from tests.cluster.applications.limits import LIMITED, RESTRICTED
from tests.cluster.applications.objects import IMMUTABLE, OWNED
from tests.cluster.applications.operator import OPERATED
from tests.cluster.applications.policies import AUTOSCALED, FENCED, GUARDED
from tests.cluster.applications.services import BY_HAND_SERVED, GENERATED, PORTS, SERVING
from tests.cluster.applications.shop import SHOP
from tests.cluster.applications.volumes import FILED

ALL = (
    SHOP,
    FILED,
    AUTOSCALED,
    GUARDED,
    FENCED,
    LIMITED,
    RESTRICTED,
    SERVING,
    PORTS,
    BY_HAND_SERVED,
    GENERATED,
    SCHEDULED,
    TOKENS,
    BOUND,
    IMMUTABLE,
    HELD,
    OWNED,
    THOUSAND,
    HEAVY,
    LONG,
    DOUBLED,
    CERTIFIED,
    ROUTED,
    OPERATED,
)
