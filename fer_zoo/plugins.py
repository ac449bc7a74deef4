"""Packages that add to the zoo, found through their entry points."""

import warnings
from importlib.metadata import entry_points

GROUP = "fer_zoo.plugins"


def load_plugins() -> list[str]:
    """Import every installed module named by an entry point of the group `fer_zoo.plugins`.

    Importing registers what the module has. In Python `import your_package` does the same; the
    command line calls this, so that it sees the same models. In the package's pyproject.toml:

        [project.entry-points."fer_zoo.plugins"]
        yours = "your_package"

    Returns:
        The names of the entry points.
    """
    found = entry_points(group=GROUP)
    for entry in found:
        try:
            entry.load()
        except Exception as error:  # a plugin is foreign code: whatever it raises is its own
            warnings.warn(f"the plugin {entry.name!r} ({entry.value}): {error!r}", stacklevel=2)
    return sorted(found.names)
