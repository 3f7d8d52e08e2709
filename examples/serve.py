"""Serve a classifier over HTTP, with Python's own server: requests that wait are answered in one batch.

python serve.py --model runs/bert --port 8000
curl localhost:8000/health
curl localhost:8000/predict --json '{"texts": ["not a bad film at all"]}'

SIGTERM or Ctrl-C ends it: requests that came before are answered first. In front of the internet, put a proxy with TLS.
"""

import argparse
import json
import queue
import signal
import sys
import threading
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MAX_BYTES = 1_000_000  # of a request
MAX_TEXTS = 64  # of a request, and of a batch
MAX_WAITING = 256  # texts; beyond it a client has to try again
PATIENCE = 5  # seconds of silence in the middle of a request


class Classifier(threading.Thread):
    """The one thread that uses the model. What waits when it is ready becomes the next batch."""

    def __init__(self, folder):
        super().__init__()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder)
        self.model.to(device).eval()
        self.waiting = queue.Queue(MAX_WAITING)

    def submit(self, text):
        """A future of the answer. Raises `queue.Full` if too many texts wait."""
        future = Future()
        self.waiting.put_nowait((text, future))
        return future

    def stop(self):
        """End after the texts that wait."""
        self.waiting.put(None)

    def run(self):
        running = True
        while running:
            batch = [self.waiting.get()]
            while len(batch) < MAX_TEXTS and not self.waiting.empty():
                batch.append(self.waiting.get())
            if None in batch:
                running = False
                batch.remove(None)
            if batch:
                self.answer(batch)

    def answer(self, batch):
        texts = [text for text, _ in batch]
        futures = [future for _, future in batch]
        try:
            answers = self.classify(texts)
        except Exception as error:
            for future in futures:
                future.set_exception(error)
            return
        for future, answer in zip(futures, answers):
            future.set_result(answer)

    def classify(self, texts):
        limit = self.model.config.max_position_embeddings
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=limit, return_tensors="pt"
        ).to(self.model.device)
        with torch.no_grad():
            probabilities = self.model(**inputs).logits.softmax(-1)
        scores, best = probabilities.max(-1)
        names = self.model.config.id2label
        return [
            {"label": names[int(number)], "score": round(float(score), 4)}
            for number, score in zip(best, scores)
        ]


class BadRequest(Exception):
    """What is wrong with a request, and its status code."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE
    classifier = None

    def do_GET(self):
        if self.path == "/health":
            alive = self.classifier.is_alive()
            self.reply(200 if alive else 503, {"status": "ok" if alive else "stopped"})
        else:
            self.reply(404, {"error": "there are /health and /predict"})

    def do_POST(self):
        try:
            if self.path != "/predict":
                raise BadRequest(404, "there are /health and /predict")
            futures = [self.classifier.submit(text) for text in self.read_texts()]
            self.reply(200, {"answers": [future.result() for future in futures]})
        except BadRequest as error:
            self.reply(error.status, {"error": str(error)})
        except queue.Full:
            self.reply(503, {"error": "too many texts wait; try again"})
        except Exception as error:
            self.reply(500, {"error": f"the model failed: {type(error).__name__}"})

    def read_texts(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise BadRequest(411, "Content-Length is missing")
        if int(length) > MAX_BYTES:
            # Some of it is read: a client that is still sending would not see the answer.
            self.rfile.read(min(int(length), 8 * MAX_BYTES))
            raise BadRequest(413, f"a request has at most {MAX_BYTES} bytes")
        try:
            document = json.loads(self.rfile.read(int(length)))
            texts = document["texts"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise BadRequest(400, 'expected {"texts": ["…"]}') from None
        if not isinstance(texts, list) or not all(
            isinstance(text, str) for text in texts
        ):
            raise BadRequest(400, "texts is a list of strings")
        if len(texts) > MAX_TEXTS:
            raise BadRequest(413, f"a request has at most {MAX_TEXTS} texts")
        return texts

    def reply(self, status, document):
        body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = False  # `server_close` waits for the requests that run
    request_queue_size = 128


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder of a classifier")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 in a container")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    classifier = Classifier(options.model)
    classifier.start()
    Handler.classifier = classifier
    server = Server((options.host, options.port), Handler)

    def stop(number, frame):
        # In another thread: `shutdown` waits for the loop that this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"serving on http://{options.host}:{server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    classifier.stop()
    classifier.join()
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
