"""The page as a Hugging Face Space."""

from fer_zoo.app import start

start(host="0.0.0.0", port=7860)  # where a Space is asked
