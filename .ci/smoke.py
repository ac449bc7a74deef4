"""What a wheel must do in an environment that has nothing else, away from the checkout."""

import math

import numpy as np

import fer_zoo

assert "site-packages" in fer_zoo.__file__, fer_zoo.__file__
rows = np.hypot(*np.mgrid[-24:24, -24:24]).clip(0, 24) / 24
for name in sorted({address.split(".")[0] for address in fer_zoo.list_weights()}):
    face = fer_zoo.Predictor(name)(rows)
    assert face.label in face.probabilities, face
    assert math.isclose(sum(face.probabilities.values()), 1, abs_tol=1e-6), face
    print(name, face)
try:
    fer_zoo.export(fer_zoo.load("resnet18_025.fer2013"), "x.onnx")
except fer_zoo.errors.MissingDependencyError as error:
    assert "pip install" in str(error) and ".whl" in str(error), error
    print(error)
else:
    raise AssertionError("the extra is not needed")
