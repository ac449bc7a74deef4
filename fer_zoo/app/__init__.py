"""A page where one looks: photographs, films and the camera, in the browser (`fer-zoo app`).

`answers` says what is shown, `cards` how, `heat` where a network looked; they need no Gradio.
`page` is the page.
"""

from fer_zoo.app.heat import heat_map
from fer_zoo.app.page import build, start

__all__ = ["build", "heat_map", "start"]
