"""Station: the guests' door. What a plugin imports to be one: `impl` marks its hooks, `spec` documents them.

Importing this package costs no torch; the host that loads plugins is `deqlight.plugin.manager`.
"""

from . import spec
from .spec import API, NAME, impl

__all__ = ["API", "NAME", "impl", "spec"]
