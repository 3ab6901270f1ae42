"""What all tests share: one thread, no deadlines, and a tiny random language model with a real tokenizer."""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from cao.files import canonical_json
from cao.machine.assets import cache_dir
from cao.machine.compute import keep_rates, measure_rates, probe_key
from cao.machine.processor import usable_processors
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.profiles import ModelProfile

torch.set_num_threads(1)  # sums differ in their last bits between numbers of threads, and test processes share cores
os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start
os.environ.pop("COLUMNS", None)  # the readline that pytest imports leaves it to the workers that pytest starts
settings.register_profile(
    "suite",
    deadline=None,  # the machine may be busy
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")

TINY = ModelProfile("tiny", "nowhere/tiny", "text", 4, 8, "embedded")
CORPUS = [
    "Question: Which of these animals can fly?\nAnswer: the bird",
    "Question: Why do plants need the sun?\nA. to grow\nB. to sleep\nC. to run\nAnswer: A",
    "Question: Tom has 12 apples and eats 5. How many apples are left?\nAnswer: 12 - 5 = 7 #### 7",
    '{"family": "TTL", "ttl_steps": 25, "learning_rate": 1e-5, "batch_size": 4, "shuffle_data": true}',
    '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}',
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


OWN_CACHE = "CAO_TESTS_CACHE"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what chooses the full counts of ``tests/survival``."""
    what = "share of the full counts of tests/survival; 1 is all of them, hours on two cores"
    parser.addoption("--long", type=float, default=0.0, metavar="SHARE", help=what)


def pytest_configure() -> None:
    """Give all processes of the tests one cache, in which what to compute in is settled.

    Other load may come and go while tests run, and two runs that are compared must not choose anew in between. What is
    dear to make, such as the converted model, is shared with the user's cache.
    """
    if OWN_CACHE in os.environ:  # a worker, or a test that starts pytest
        return
    models = cache_dir() / "models"
    models.mkdir(exist_ok=True)
    os.environ[OWN_CACHE] = os.environ["XDG_CACHE_HOME"] = folder = tempfile.mkdtemp(prefix="cao-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (cache_dir() / "models").symlink_to(models)
    rates = measure_rates().model_copy(update={"noisy": False})
    for threads in range(1, usable_processors() + 1):
        keep_rates(rates, canonical_json({**probe_key(), "threads": str(threads)}))


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved two-layer Qwen2 with random weights and a byte-level BPE tokenizer (any text round-trips)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "model"
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    raw.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=special[0], pad_token=special[0])
    tokenizer.chat_template = CHAT_TEMPLATE
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def roomy_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a context that holds the policy's prompt in its few tokens."""
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("roomy") / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    return folder


@pytest.fixture
def roomy_lm(roomy_model_folder: Path) -> LanguageModel:
    """The tiny model with room for the policy's prompt; a new one for each test, so a test may change it."""
    return load_language_model(TINY, path=str(roomy_model_folder), dtype="bfloat16", offline=True)


@pytest.fixture
def tiny_lm(tiny_model_folder: Path) -> LanguageModel:
    """The tiny model through the real loader, bf16; a new one for each test, so a test may change it."""
    return load_language_model(TINY, path=str(tiny_model_folder), dtype="bfloat16", offline=True)
