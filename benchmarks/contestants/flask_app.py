"""A REST API for digits as tutorials write it: Flask, Pillow, torchvision's transforms, torch one by one.

Run: python -m benchmarks.contestants.flask_app PORT BUNDLE
"""

import io
import sys
from pathlib import Path

import torch
from flask import Flask, Response, jsonify, request
from PIL import Image
from torchvision import transforms

from mnist_ops.vision.inference.bundle import WEIGHTS, load_card
from mnist_ops.vision.models.weights import network_from


def flask_app(bundle: Path) -> Flask:
    """The app: `POST /predict` with an image as the body, over the network of a bundle."""
    app = Flask(__name__)
    card = load_card(bundle)
    network = network_from(
        card.architecture.network, (bundle / WEIGHTS).read_bytes(), card.architecture.kernel_sizes
    )
    network.eval()
    transform = transforms.Compose(
        [transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )

    @app.post("/predict")
    def predict() -> Response:
        image = Image.open(io.BytesIO(request.get_data())).convert("L")
        with torch.no_grad():
            probabilities = torch.softmax(network(transform(image).unsqueeze(0)), dim=1)[0]
        index = int(probabilities.argmax())
        return jsonify({"label": card.labels[index], "index": index, "probabilities": probabilities.tolist()})

    return app


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    flask_app(folder).run("127.0.0.1", port)
