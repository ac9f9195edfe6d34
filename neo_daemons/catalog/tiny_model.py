"""Create a tiny language model locally, so that `mlx_lm.server` has something to serve without a download.

    python -m neo_daemons.catalog.tiny_model [--try] DIRECTORY

writes a one-layer Llama with random weights (about 100 kB) and a byte-level tokenizer into DIRECTORY, which must exist.
With ``--try`` it loads the existing model with mlx_lm and lets it answer. An interpreter that has mlx-lm but not this
package may run this file as a script.

Its answers are noise: one small letter for each token, as many as the request allows. Everything else is real: loading,
the chat template, token limits, streaming. It uses no network and creates the same model each time.
"""

from __future__ import annotations

import importlib
import json
import random
import string
import sys
from pathlib import Path
from typing import Any

HIDDEN_SIZE = 32
MLP_SIZE = 64
HEADS = 4
SEED = 1
# With weights of the usual size, such a small model repeats one letter for ever.
GAIN = 4.0

START = "<s>"
END = "</s>"
# Letters alone: the server drops a space at the start, and an answer of nothing else would have no content at all.
WANTED = frozenset(string.ascii_lowercase)

# The start token is spelled out because the server encodes a rendered chat without adding special tokens.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}{{ message['role'] + '\\n' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant\\n' }}{% endif %}"
)


def load_library(name: str) -> Any:
    """Import by name, so that type checkers do not ask for a library which is an optional extra."""
    return importlib.import_module(name)


def make_tokenizer() -> Any:
    """Create a tokenizer with one token for each byte and no merges, so that it can encode any text."""
    tokenizers = load_library("tokenizers")
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    vocabulary = {token: index for index, token in enumerate([START, END, *sorted(byte_level.alphabet())])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    # Without a start token an empty prompt would be no tokens at all, which a model cannot continue.
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, vocabulary[START])]
    )
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def make_config(vocabulary: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": MLP_SIZE,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
    }


def make_weights(vocabulary: dict[str, int]) -> dict[str, list[Any]]:
    """Create random weights, except for one channel that restricts the answers to `WANTED`.

    Llama has no output bias. So every token enters with the same value in channel 0, the layer adds nothing to it, and
    the output weights of that channel rule out the other tokens.
    """
    source = random.Random(SEED)

    def matrix(rows: int, columns: int) -> list[list[float]]:
        return [[source.gauss(0.0, GAIN) / columns**0.5 for _ in range(columns)] for _ in range(rows)]

    embedding, output = matrix(len(vocabulary), HIDDEN_SIZE), matrix(len(vocabulary), HIDDEN_SIZE)
    for token, index in vocabulary.items():
        embedding[index][0] = 1.0
        output[index][0] = 0.0 if token in WANTED else -1e6
    attention_output, mlp_output = matrix(HIDDEN_SIZE, HIDDEN_SIZE), matrix(HIDDEN_SIZE, MLP_SIZE)
    attention_output[0] = [0.0] * HIDDEN_SIZE
    mlp_output[0] = [0.0] * MLP_SIZE

    layer = "model.layers.0"
    return {
        "model.embed_tokens.weight": embedding,
        f"{layer}.input_layernorm.weight": [1.0] * HIDDEN_SIZE,
        f"{layer}.self_attn.q_proj.weight": matrix(HIDDEN_SIZE, HIDDEN_SIZE),
        f"{layer}.self_attn.k_proj.weight": matrix(HIDDEN_SIZE, HIDDEN_SIZE),
        f"{layer}.self_attn.v_proj.weight": matrix(HIDDEN_SIZE, HIDDEN_SIZE),
        f"{layer}.self_attn.o_proj.weight": attention_output,
        f"{layer}.post_attention_layernorm.weight": [1.0] * HIDDEN_SIZE,
        f"{layer}.mlp.gate_proj.weight": matrix(MLP_SIZE, HIDDEN_SIZE),
        f"{layer}.mlp.up_proj.weight": matrix(MLP_SIZE, HIDDEN_SIZE),
        f"{layer}.mlp.down_proj.weight": mlp_output,
        "model.norm.weight": [1.0] * HIDDEN_SIZE,
        "lm_head.weight": output,
    }


def make_model(directory: Path) -> str:
    """Write the model and return a description. Raises ImportError without mlx-lm, OSError if it cannot write."""
    mlx, tokenizer = load_library("mlx.core"), make_tokenizer()
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    for name, value in (("config.json", make_config(vocabulary)), ("tokenizer_config.json", tokenizer_config)):
        (directory / name).write_text(json.dumps(value, indent=2) + "\n")
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    path = directory / "model.safetensors"
    weights = {name: mlx.array(values, dtype=mlx.float32) for name, values in make_weights(vocabulary).items()}
    # Given a path, mlx reports that it cannot open it as a RuntimeError.
    with path.open("wb") as file:
        mlx.save_safetensors(file, weights, metadata={"format": "mlx"})
    return f"created a tiny model: {len(vocabulary)} tokens, 1 layer, {path.stat().st_size} bytes of random weights"


def try_model(directory: Path) -> str:
    """Load the model and let it answer with one token. Raises whatever mlx_lm raises."""
    mlx_lm = load_library("mlx_lm")
    model, tokenizer = mlx_lm.load(str(directory))
    return f"it answers {mlx_lm.generate(model, tokenizer, 'hello', max_tokens=1)!r}"


def main(arguments: list[str]) -> int:
    doing, act = "create", make_model
    if arguments[:1] == ["--try"]:
        doing, act = "use", try_model
        del arguments[0]
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m neo_daemons.catalog.tiny_model [--try] DIRECTORY (which must exist)", file=sys.stderr)
        return 2
    try:
        print(act(Path(arguments[0])))
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        print(f"cannot {doing} the tiny model: {reason}; install mlx-lm for {sys.executable}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot {doing} the tiny model in {arguments[0]}: {error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:  # a library may raise anything for a damaged file
        reason = str(error).strip().partition("\n")[0]
        print(f"cannot {doing} the tiny model: {type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # For a script, Python searches its directory for modules first, and there `mlx` is this package's module.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here]
    sys.exit(main(sys.argv[1:]))
