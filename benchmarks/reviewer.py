"""How many records an hour a person reviews, by a scripted person on the embedded stack.

    python -m benchmarks.reviewer [--records 60] [--think 3] [--chromium /usr/bin/chromium]

A quickly trained champion classifies sample digits, and all of them are marked for review. The script then
answers the same number of records twice, with the same time to think before each answer: through the JSON
endpoints, and by keys in the real page, in Chromium. It prints records an hour, how long the server took for
an answer, and how long the next picture took to be there after a key. Without Chromium the page is left out.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from playwright.sync_api import Page, sync_playwright
from pydantic import SecretStr

from benchmarks.measuring import machine
from benchmarks.setting import enthrone, insert, prepared_adapters, train_model
from benchmarks.stores import stores
from mnist_ops.adapters.memory.images import InMemoryImages
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.selection import Selection
from mnist_ops.local import sample_digits
from mnist_ops.local.ports import HOST
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.alone import alone_app
from mnist_ops.settings import Settings
from mnist_ops.wiring import Adapters
from tests.support.servers import first_free_port

TOKEN = "the token of this benchmark"  # noqa: S105 (of a server that only this process reaches)
ALL_IN_REVIEW = 1.1  # no confidence reaches it


@dataclass
class Timings:
    """What a scripted person waited for, in seconds.

    Attributes:
        answers: the server's own time for each answer.
        pictures: from an answer to the next picture.
        wall_s: the whole review, thinking included.
    """

    answers: list[float]
    pictures: list[float]
    wall_s: float = 0.0

    def report(self, what: str, records: int) -> str:
        """As a row of a table."""
        answers, pictures = (
            f"{_ms(values, 0.5)} / {_ms(values, 0.95)}" for values in (self.answers, self.pictures)
        )
        return f"| {what} | {records / self.wall_s * 3600:,.0f} | {answers} | {pictures} |"


def _ms(values: Sequence[float], share: float) -> str:
    if not values:
        return "-"
    return f"{sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1e3:.0f} ms"


def classify_for_review(steps: Pipeline, adapters: Adapters, count: int) -> None:
    """Take sample digits through a run in which every prediction is marked for review."""
    digits, _ = sample_digits.load("test")
    images = InMemoryImages()
    for number in range(count):
        images.images[f"https://images.example/{number}.png"] = sample_digits.png(digits[number])
    now = steps.now()
    insert(
        adapters,
        (
            {"_id": f"{number:06d}", "image_url": url, "created_at": now}
            for number, url in enumerate(images.images)
        ),
    )
    manifest = steps.snapshot(Generation("classify_records/benchmark"), Selection(steps.now()))
    predictions = [steps.classify(steps.fetch(part, images=images)) for part in steps.parts(manifest)]
    assessment = steps.assess(manifest, predictions)
    steps.reconcile(manifest, [steps.publish(uri, assessment) for uri in predictions])


@contextmanager
def served(steps: Pipeline) -> Iterator[str]:
    """Serve the pages; gives their address."""
    port = first_free_port(1)
    server = uvicorn.Server(uvicorn.Config(alone_app(steps), HOST, port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def reviewable(records: int) -> Iterator[tuple[Adapters, str]]:
    """The embedded database and object store with records to review, and the address of the pages."""
    with stores() as folder, tempfile.TemporaryDirectory() as scratch:
        settings = Settings(
            mongo_database="review", local_dir=folder, serve_token=SecretStr(TOKEN), device="cpu"
        )
        adapters = prepared_adapters(settings.model_copy(update={"review_below": ALL_IN_REVIEW}))
        train_model(Path(scratch) / "bundle")
        enthrone(adapters, Path(scratch) / "bundle")
        steps = Pipeline(adapters)
        classify_for_review(steps, adapters, records)
        with served(steps) as address:
            yield adapters, address


def answer_by_endpoints(address: str, records: int, think_s: float) -> Timings:
    """Answer records through the JSON endpoints, a batch ahead as the page has it."""
    timings = Timings([], [])
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        started = time.perf_counter()
        items = client.get("/review/next").raise_for_status().json()["items"]
        for number in range(records):
            time.sleep(think_s)
            item = items.pop(0)
            label = item["predicted"] if number % 4 else item["labels"][number % 10]
            body = {"record": item["record"], "seen": item["seen"], "label": label}
            asked = time.perf_counter()
            said = client.post("/review/answers", data=body).raise_for_status().json()
            timings.answers.append(time.perf_counter() - asked)
            if said["said"] != "saved":
                raise RuntimeError(f"answer {number} was not saved: {said['message']}")
            if not items:
                asked = time.perf_counter()
                items = client.get("/review/next").raise_for_status().json()["items"]
                timings.pictures.append(time.perf_counter() - asked)
        timings.wall_s = time.perf_counter() - started
    return timings


def sign_in(page: Page, address: str, path: str) -> None:
    """Sign in by the form, and open a page."""
    page.goto(f"{address}/sign-in")
    page.fill("input[name=name]", "ada")
    page.fill("input[name=token]", TOKEN)
    page.click("main form button")
    page.goto(f"{address}{path}")


def answer_by_keys(address: str, records: int, think_s: float, chromium: Path) -> Timings:
    """Answer records by keys in the page: mostly confirmed, every fourth corrected, one undone."""
    timings = Timings([], [])
    choose = random.Random(7)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        sign_in(page, address, "/review")
        page.wait_for_selector(".review-item img")
        started = time.perf_counter()
        for number in range(records):
            page.wait_for_timeout(think_s * 1e3)
            before = page.get_attribute(".review-item", "data-record")
            key = str(choose.randrange(10)) if number % 4 == 0 else "Enter"
            asked = time.perf_counter()
            with page.expect_response("**/review/answers") as answered:
                page.keyboard.press(key)
                page.wait_for_selector(f".review-item:not([data-record='{before}']) img")
                timings.pictures.append(time.perf_counter() - asked)
            timing = answered.value.request.timing
            timings.answers.append((timing["responseStart"] - timing["requestStart"]) / 1e3)
        timings.wall_s = time.perf_counter() - started
        browser.close()
    return timings


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=60)
    parser.add_argument("--think", type=float, default=3.0, help="seconds before each answer")
    parser.add_argument("--chromium", type=Path, default=Path("/usr/bin/chromium"))
    given = parser.parse_args()
    rows = []
    with reviewable(2 * given.records + 20) as (adapters, address):
        by_endpoints = answer_by_endpoints(address, given.records, given.think)
        rows.append(by_endpoints.report("JSON endpoints", given.records))
        if given.chromium.exists():
            by_keys = answer_by_keys(address, given.records, given.think, given.chromium)
            rows.append(by_keys.report("keys in Chromium", given.records))
        written = [document for document in adapters.records.documents() if "label_review" in document]
        expected = given.records * len(rows)
        if len(written) != expected or any(one["label"] not in DIGITS.names for one in written):
            raise RuntimeError(f"{len(written)} labels are in MongoDB, and {expected} were given")
    print(machine())
    print(f"{given.records} records each way, {given.think:g} s to think before each answer\n")
    print("| way | records/hour | server's answer p50 / p95 | next picture p50 / p95 |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
