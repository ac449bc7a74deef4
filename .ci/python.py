"""Say where this Python will not do for the package; remove an environment that does not run.

    python3 .ci/python.py .venv

Any Python 3 runs this, so it is written for the oldest. What it prints is what is wrong.
"""

import os
import re
import shutil
import subprocess
import sys

with open("pyproject.toml") as file:
    least = re.search(r'requires-python = ">=([0-9]+)[.]([0-9]+)"', file.read()).groups()
if sys.version_info[:2] < tuple(map(int, least)):
    have = "%s is %d.%d" % ((sys.executable,) + sys.version_info[:2])
    told = "fer_zoo needs Python %s.%s or later, and %s: name another one, " % (least + (have,))
    sys.exit(told + "`make PYTHON=python%s.%s ...`" % least)
try:
    import ensurepip
    import venv
except ImportError as error:
    told = "%s cannot make environments (%s): on Debian and Ubuntu, " % (sys.executable, error)
    sys.exit(told + "`apt install python3-venv`")

place = sys.argv[1]
python = os.path.join(place, "bin", "python")
if os.path.exists(os.path.join(place, "pyvenv.cfg")):
    try:
        broken = subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL)
    except OSError:  # the Python that it was made of is gone
        broken = True
    if broken:
        shutil.rmtree(place)
