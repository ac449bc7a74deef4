"""
Export and serve
================

One ONNX file holds the networks, the transform, the fusion and the calibration. Serving it needs
onnxruntime and nothing of fer_zoo or torch.
"""

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
from PIL import Image

import fer_zoo

path = f"{mkdtemp()}/faces.onnx"
fer_zoo.export(fer_zoo.create("ensemble_r18_vgg19_025", weights="default"), path)

# %%
# A service in the standard library: POST an image, get JSON. The file says what its classes are.

session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
LABELS = json.loads(session.get_modelmeta().custom_metadata_map["fer_zoo"])["labels"]


class Service(BaseHTTPRequestHandler):
    """Answers a POST of a face crop with the probability of each class."""

    def do_POST(self) -> None:
        """Label the image in the body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            with Image.open(BytesIO(body)) as image:
                face = np.asarray(image.convert("L").resize((48, 48), Image.Resampling.BILINEAR))
        except OSError:
            self.send_error(415, "not an image")
            return
        (shares,) = session.run(None, {"images": face[None, None]})
        answer = json.dumps(dict(zip(LABELS, shares[0].tolist(), strict=True))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()

# %%
# A client, and the same face through the predictor: the answers are equal up to the scaling.

url = f"http://127.0.0.1:{server.server_port}"
with open("faces/drawn_happy.png", "rb") as file:
    served = json.load(urllib.request.urlopen(urllib.request.Request(url, data=file.read())))
server.shutdown()
server.server_close()
own = fer_zoo.Predictor("ensemble_r18_vgg19_025")("faces/drawn_happy.png").probabilities
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for shift, shares, name, colour in (
    (-0.2, own, "Predictor", "#0072b2"),
    (0.2, served, "service", "#e69f00"),
):
    axes.bar(np.arange(7) + shift, list(shares.values()), 0.38, label=name, color=colour)
axes.set_xticks(range(7), LABELS)
axes.legend(frameon=False)
plt.show()
