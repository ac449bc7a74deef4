"""Packages that add to the zoo, found through their entry points."""

import warnings
from importlib.metadata import entry_points


def load_plugins() -> list[str]:
    """Import what entry points of `fer_zoo.plugins` name; return the names of these."""
    found = entry_points(group="fer_zoo.plugins")
    for entry in found:
        try:
            entry.load()
        except Exception as error:  # a plugin is foreign code: whatever it raises is its own
            warnings.warn(f"the plugin {entry.name!r} ({entry.value}): {error!r}", stacklevel=2)
    return sorted(found.names)
