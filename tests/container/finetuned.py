"""Runs `finetune` as a user does, each task with a tiny model made here: `python finetuned.py FINETUNE FOLDER`.

Prints one JSON object: for each run its exit code, last lines, scores and answers. FINETUNE is the payload's folder of
that name. What needs a package that this environment lacks is reported as the sentence that `finetune` ends with.
"""

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

FINETUNE, FOLDER = map(os.path.abspath, sys.argv[1:3])
HERE = Path(__file__).parent
RANDOM = random.Random(0)
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
GOOD, BAD = "good great fine lovely".split(), "bad awful dull weak".split()
COLOURS = "red blue green".split()


def pick(words):
    return RANDOM.choice(words)


def lines(name, rows, encoding="utf-8"):
    Path(FOLDER, name).write_bytes("\n".join(rows).encode(encoding))


def make_data():
    reviews, chinese = [], []
    for number in range(240):
        good = number % 2
        reviews.append(
            f"the {pick(['film', 'plot', 'cast'])} was {pick(GOOD if good else BAD)};{good}"
        )
        opinion = pick(["精彩", "好看"] if good else ["糟糕", "无聊"])
        chinese.append(
            f"这部电影{pick(['剧情', '音乐', '演员'])}太{opinion},{'正面' if good else '负面'}"
        )
    lines("reviews.csv", ["text;label", *reviews])
    lines("chinese.csv", ["评论,标签", *chinese], "gb18030")
    lines("plain.txt", [row.split(";")[0] for row in reviews])
    numbers = [f"the film was {'very ' * (n % 4)}good\t{n % 4 / 2}" for n in range(240)]
    lines("numbers.tsv", ["sentence\tscore", *numbers])
    several, chats, sentences = [], [], []
    for _ in range(240):
        chosen = [colour for colour in COLOURS if RANDOM.random() < 0.5]
        several.append(
            json.dumps({"text": " and ".join(chosen or ["film"]), "labels": chosen})
        )
        colour = pick(COLOURS)
        chats.append(
            json.dumps(
                {"prompt": f"say {colour}", "completion": f"{colour} . {colour}"}
            )
        )
        sentences.append(
            f"{pick(['Anna', 'Bob'])} B-PER\nlives O\nin O\n{pick(['Paris', 'Rome'])} B-LOC\n"
        )
    lines("several.jsonl", several)
    lines("chats.jsonl", chats)
    lines("tags.conll", sentences)


def command(*words, processes=1):
    if processes == 1:
        return [sys.executable, FINETUNE, *words]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun.append(
        "--local-addr=127.0.0.1"
    )  # without a network the name leads nowhere
    return [
        *torchrun,
        f"--nproc_per_node={processes}",
        f"{FINETUNE}/__main__.py",
        *words,
    ]


def finetune(name, *words, processes=1):
    """Exit code, the last lines and the scores of one run."""
    output = Path(FOLDER, "runs", name)
    words = [*words, "--output", str(output), "--log-every", "1"]
    done = subprocess.run(
        command(*words, processes=processes),
        capture_output=True,
        check=False,
        text=True,
        cwd=FOLDER,
        env=ENV,
    )
    result = {
        "code": done.returncode,
        "out": done.stdout[-1500:],
        "err": done.stderr[-1500:],
    }
    metrics = output / "metrics.json"
    if metrics.is_file():
        result["metrics"] = json.loads(metrics.read_text())
        result["files"] = sorted(path.name for path in output.iterdir())
        result["losses"] = losses(output)
    return result


def losses(output):
    found = {}
    for line in (output / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        kept = {
            key: value for key, value in event.items() if key in ("loss", "eval_loss")
        }
        found.setdefault(str(event["step"]), {}).update(kept)
    return found


def predict(name, *words, texts):
    done = subprocess.run(
        [sys.executable, FINETUNE, "predict", str(Path(FOLDER, "runs", name)), *words],
        input="\n".join(texts),
        capture_output=True,
        check=False,
        text=True,
        env=ENV,
    )
    return [json.loads(line) for line in done.stdout.splitlines()] or done.stderr[-500:]


def killed(name, *words, at):
    """The same run, killed after the checkpoint of a step, and resumed."""
    output = Path(FOLDER, "runs", name)
    process = subprocess.Popen(
        command(*words, "--output", str(output), "--log-every", "1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=FOLDER,
        env=ENV,
    )
    state = output / f"checkpoint-{at}" / "trainer_state.json"
    while not state.is_file() and process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    process.send_signal(signal.SIGKILL)
    code = process.wait()
    return {"killed": code, **finetune(name, *words, "--resume")}


REVIEWS = (
    "--task classification --model bert --data reviews.csv --learning-rate 1e-3".split()
)
RESUMED = [*REVIEWS, "--epochs", "2", "--batch-size", "24", "--eval-every", "6"]
RUNS = {
    "chinese": "--task classification --model bert --data chinese.csv --learning-rate 2e-3 --epochs 3 "
    "--predict plain.txt",
    "several": "--task classification --model bert --data several.jsonl --learning-rate 3e-3 --epochs 6",
    "numbers": "--task regression --model bert --data numbers.tsv --learning-rate 3e-4 --epochs 2",
    "masked": "--task mlm --model bert --data plain.txt --learning-rate 1e-3 --epochs 1 --no-packing",
    "chats": "--task causal --model llama --data chats.jsonl --learning-rate 4e-3 --epochs 2",
    "tags": "--task tokens --model bert --data tags.conll --learning-rate 2e-3 --epochs 1",
    "lora": "--task causal --model llama --data chats.jsonl --lora --merge --packing --epochs 1",
}


def main():
    make_data()
    models = [sys.executable, str(HERE / "tiny_models.py"), FOLDER]
    subprocess.run(models, check=True, capture_output=True, env=ENV)
    answer = {name: finetune(name, *words.split()) for name, words in RUNS.items()}
    answer["whole"] = finetune("whole", *RESUMED)
    answer["cut"] = killed("cut", *RESUMED, at=12)
    short = [*REVIEWS, "--max-steps", "2", "--batch-size", "8"]
    answer["accumulated"] = finetune(
        "accumulated", *short, "--gradient-accumulation-steps", "2"
    )
    answer["processes"] = finetune("processes", *short, processes=2)
    answer["again"] = finetune("whole", *RESUMED)
    answer["say"] = predict(
        "chats", "--max-new-tokens", "8", texts=["say blue", "say red"]
    )
    answer["classify"] = predict("chinese", texts=["这部电影太精彩", "这部电影太无聊"])
    print(json.dumps(answer))


main()
