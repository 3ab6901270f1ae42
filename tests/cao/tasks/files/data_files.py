"""Files as people have them: written as the tools write them that make such files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

Rows = list[dict[str, Any]]
N = 12

MEDQA: Rows = [
    {
        "question": f"A {20 + n}-year-old has a fever. What is given first?",
        "answer": "Tobramycin" if n % 2 else "Ampicillin",
        "options": {"A": "Ampicillin", "B": "Ceftriaxone", "C": "Ciprofloxacin", "D": "Tobramycin"},
        "meta_info": "step1",
        "answer_idx": "D" if n % 2 else "A",
        "metamap_phrases": ["year old", "fever"],
    }
    for n in range(N)
]
BIGBIO: Rows = [
    {
        "meta_info": "step1",
        "question": f"Which bone is number {n}?",
        "answer_idx": "B",
        "answer": "Ulna",
        "options": [{"key": "A", "value": "Radius"}, {"key": "B", "value": "Ulna"}],
    }
    for n in range(N)
]
ARC: Rows = [
    {
        "id": f"Mercury_{n}",
        "question": f"Which of these flies, {n}?",
        "choices": {"text": ["dog", "bird", "cow"], "label": ["A", "B", "C"] if n % 2 else ["1", "2", "3"]},
        "answerKey": "B" if n % 2 else "2",
    }
    for n in range(N)
]
OPENBOOK: Rows = [
    {
        "id": str(n),
        "question_stem": f"The sun is responsible for {n}",
        "choices": {"text": ["puppies", "plants"], "label": ["A", "B"]},
        "answerKey": "B",
    }
    for n in range(N)
]
MMLU: Rows = [
    {"question": f"What is {n} + 1?", "subject": "algebra", "choices": [str(n), str(n + 1)], "answer": n % 2}
    for n in range(N)
]
HELLASWAG: Rows = [
    {
        "ind": n,
        "ctx": f"A man sits, {n}.",
        "endings": ["He flies.", "He stands."],
        "source_id": "x",
        "label": str(n % 2),
    }
    for n in range(N)
]
PIQA: Rows = [
    {"goal": f"Open jar {n}", "sol1": "Turn the lid.", "sol2": "Eat the lid.", "label": n % 2} for n in range(N)
]
BOOLQ: Rows = [
    {"question": f"is {n} even", "passage": "Numbers are even or odd.", "answer": n % 2 == 0} for n in range(N)
]
WINOGRANDE: Rows = [
    {"sentence": f"Ann beat Eve {n} times because _ was slow.", "option1": "Ann", "option2": "Eve", "answer": "2"}
    for n in range(N)
]
SCIQ: Rows = [
    {
        "question": f"What is cell {n} made of?",
        "distractor3": "air",
        "distractor1": "stone",
        "distractor2": "glass",
        "correct_answer": "water",
        "support": "Cells hold water.",
    }
    for n in range(N)
]
MEDMCQA: Rows = [
    {
        "id": str(n),
        "question": f"Nerve {n}?",
        "opa": "a1",
        "opb": "b1",
        "opc": "c1",
        "opd": "d1",
        "cop": n % 4,
        "exp": None,
    }
    for n in range(N)
]
SOCIAL: Rows = [
    {
        "context": "Ann cried.",
        "question": f"How is Ann on day {n}?",
        "answerA": "sad",
        "answerB": "glad",
        "answerC": "tall",
        "label": str(1 + n % 3),
    }
    for n in range(N)
]
GSM: Rows = [{"question": f"{n} + {n}?", "answer": f"{n} + {n} = <<{n}+{n}>>\n#### {2 * n}"} for n in range(N)]
SQUAD: Rows = [
    {
        "id": f"56be{n}",
        "title": "Normans",
        "context": f"Rollo led {n} ships.",
        "question": f"Who led {n} ships?",
        "answers": {"text": ["Rollo", "the Viking Rollo"], "answer_start": [0, 0]},
    }
    for n in range(N)
]
SQUAD_TWO: Rows = [
    *SQUAD,
    {
        "id": "x",
        "title": "N",
        "context": "No.",
        "question": "Who led none?",
        "answers": {"text": [], "answer_start": []},
    },
]
ALPACA: Rows = [
    {"instruction": "Translate to French.", "input": f"{n} birds", "output": f"{n} oiseaux"} for n in range(N)
]
COMPLETION: Rows = [{"prompt": f"The capital of country {n} is", "completion": f" City {n}"} for n in range(N)]
MESSAGES: Rows = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"How much is {n} + 1?"},
            {"role": "assistant", "content": str(n + 1)},
        ]
    }
    for n in range(N)
]
SHAREGPT: Rows = [
    {
        "id": f"identity_{n}",
        "conversations": [{"from": "human", "value": f"Name bird {n}."}, {"from": "gpt", "value": f"Bird {n}"}],
    }
    for n in range(N)
]
CONVERSATIONAL: Rows = [
    {
        "prompt": [{"role": "user", "content": f"Colour {n}?"}],
        "completion": [{"role": "assistant", "content": "Blue."}],
    }
    for n in range(N)
]
SENTIMENT: Rows = [
    {"text": f"Film {n} was {'fine' if n % 2 else 'bad'}.", "label": "positive" if n % 2 else "negative"}
    for n in range(N)
]
OWN_ID: Rows = [{"id": n, "question": f"Does {n} fly?", "choices": ["dog", "bird"], "answer": "B"} for n in range(N)]
TRIVIA: Rows = [
    {"question": f"Who wrote book {n}?", "answer": {"value": "Twain", "aliases": ["Mark Twain", "Clemens"]}}
    for n in range(N)
]
LETTERED = [
    {"No": n, "Question": f"Flies, {n}?", "A": "dog", "B": "bird", "C": "cow", "D": "cat", "Answer": "B"}
    for n in range(N)
]
NUMBERED = [
    {"question": f"Flies, {n}?", "option_a": "dog", "option_b": "bird", "correct": str(1 + n % 2)} for n in range(N)
]


def jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def array(path: Path, rows: Rows) -> Path:
    path.write_text(json.dumps(rows, indent=2))
    return path


def squad_json(path: Path, rows: Rows) -> Path:
    paragraphs = [
        {
            "context": row["context"],
            "qas": [{"id": row["id"], "question": row["question"], "answers": [{"text": "Rollo", "answer_start": 0}]}],
        }
        for row in rows
    ]
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "Normans", "paragraphs": paragraphs}]}))
    return path


def table(delimiter: str) -> Callable[[Path, Rows], Path]:
    def write(path: Path, rows: Rows) -> Path:
        with path.open("w", newline="", encoding="utf-8-sig") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def parquet(path: Path, rows: Rows) -> Path:
    Dataset.from_list(rows).to_parquet(str(path))
    return path


def labelled_parquet(path: Path, rows: Rows) -> Path:
    kinds = Features({"text": Value("string"), "label": ClassLabel(names=["negative", "positive"])})
    Dataset.from_list([{**row, "label": int(row["label"] == "positive")} for row in rows], features=kinds).to_parquet(
        str(path)
    )
    return path


def saved(path: Path, rows: Rows) -> Path:
    Dataset.from_list(rows).save_to_disk(str(path))
    return path


def saved_parts(path: Path, rows: Rows) -> Path:
    whole = Dataset.from_list(rows)
    DatasetDict({"train": whole, "test": whole.shuffle(seed=1).select(range(len(rows)))}).save_to_disk(str(path))
    return path


FILES: dict[str, tuple[str, Callable[[Path, Rows], Path], Rows, tuple[str, str, str]]] = {
    "medqa as the hub exports it": ("m.jsonl", jsonl, MEDQA, ("question", "options", "answer")),
    "medqa in parquet": ("m.parquet", parquet, MEDQA, ("question", "options", "answer")),
    "medqa of bigbio": ("m.json", array, BIGBIO, ("question", "options", "answer")),
    "arc as the hub exports it": ("a.jsonl", jsonl, ARC, ("question", "choices", "answerKey")),
    "arc in parquet": ("a.parquet", parquet, ARC, ("question", "choices", "answerKey")),
    "arc by save_to_disk": ("arc", saved, ARC, ("question", "choices", "answerKey")),
    "openbookqa": ("o.jsonl", jsonl, OPENBOOK, ("question_stem", "choices", "answerKey")),
    "mmlu in parquet": ("m.parquet", parquet, MMLU, ("question", "choices", "answer")),
    "mmlu by save_to_disk, with parts": ("mmlu", saved_parts, MMLU, ("question", "choices", "answer")),
    "hellaswag": ("h.jsonl", jsonl, HELLASWAG, ("ctx", "endings", "label")),
    "piqa": ("p.json", array, PIQA, ("goal", "sol1+sol2", "label")),
    "boolq": ("b.jsonl", jsonl, BOOLQ, ("question", "", "answer")),
    "winogrande": ("w.jsonl", jsonl, WINOGRANDE, ("sentence", "option1+option2", "answer")),
    "sciq": (
        "s.jsonl",
        jsonl,
        SCIQ,
        ("question", "correct_answer+distractor3+distractor1+distractor2", "correct_answer"),
    ),
    "medmcqa in parquet": ("q.parquet", parquet, MEDMCQA, ("question", "opa+opb+opc+opd", "cop")),
    "social iqa": ("s.jsonl", jsonl, SOCIAL, ("question", "answerA+answerB+answerC", "label")),
    "gsm8k": ("g.jsonl", jsonl, GSM, ("question", "", "answer")),
    "squad as the hub exports it": ("s.jsonl", jsonl, SQUAD, ("question", "", "answers")),
    "squad 2 in parquet": ("s.parquet", parquet, SQUAD_TWO, ("question", "", "answers")),
    "squad's own file": ("s.json", squad_json, SQUAD, ("question", "", "answers")),
    "alpaca": ("a.json", array, ALPACA, ("instruction+input", "", "output")),
    "prompt and completion": ("c.jsonl", jsonl, COMPLETION, ("prompt", "", "completion")),
    "messages": ("m.jsonl", jsonl, MESSAGES, ("messages", "", "messages: reply")),
    "messages in parquet": ("m.parquet", parquet, MESSAGES, ("messages", "", "messages: reply")),
    "sharegpt": ("s.json", array, SHAREGPT, ("conversations", "", "conversations: reply")),
    "prompt and completion of messages": ("c.jsonl", jsonl, CONVERSATIONAL, ("prompt", "", "completion")),
    "texts and labels": ("t.csv", table(","), SENTIMENT, ("text", "", "label")),
    "texts and class labels": ("t.parquet", labelled_parquet, SENTIMENT, ("text", "", "label")),
    "own names and an id": ("o.jsonl", jsonl, OWN_ID, ("question", "choices", "answer")),
    "triviaqa": ("t.jsonl", jsonl, TRIVIA, ("question", "", "answer")),
    "letters in a csv": ("l.csv", table(","), LETTERED, ("Question", "A+B+C+D", "Answer")),
    "numbers in a csv of semicolons": ("n.csv", table(";"), NUMBERED, ("question", "option_a+option_b", "correct")),
    "lists in a tsv": ("m.tsv", table("\t"), MMLU, ("question", "choices", "answer")),
}
"""What it is → file, how it is written, its rows, and the keys of question, choices and answer."""
