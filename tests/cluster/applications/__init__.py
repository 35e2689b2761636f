"""Applications that the main job is shown on, a module each; `ALL` names them."""

from tests.cluster.applications.shop import SHOP

ALL = (SHOP,)
