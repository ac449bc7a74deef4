"""Print what the package and its extras need at least, as constraints for pip."""

import re
import tomllib
from pathlib import Path

about = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = about["optional-dependencies"]
needs = [line for name, lines in extras.items() if name not in ("docs", "dev") for line in lines]
for line in sorted({*about["dependencies"], *needs}):
    if found := re.match(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", line):
        print(f"{found[1]}=={found[2]}")
