"""Write a tiny model with random weights for llama.cpp: ``tiny_gguf.py FILE``. Needs the package gguf."""

from __future__ import annotations

import sys

import gguf
import numpy as np

WIDTH, HIDDEN, HEADS = 32, 64, 4
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]

random = np.random.default_rng(1)
writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_name("tiny")
writer.add_block_count(1)
writer.add_context_length(512)
writer.add_embedding_length(WIDTH)
writer.add_feed_forward_length(HIDDEN)
writer.add_head_count(HEADS)
writer.add_head_count_kv(HEADS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(WIDTH // HEADS)
writer.add_tokenizer_model("llama")
writer.add_token_list(PIECES)
writer.add_token_scores([0.0] * len(PIECES))
kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
writer.add_token_types([*kinds, *[gguf.TokenType.BYTE] * 256, gguf.TokenType.NORMAL])
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)
shapes = {
    "token_embd": (len(PIECES), WIDTH),
    "output": (len(PIECES), WIDTH),
    "output_norm": (WIDTH,),
    "blk.0.attn_norm": (WIDTH,),
    "blk.0.ffn_norm": (WIDTH,),
    "blk.0.attn_q": (WIDTH, WIDTH),
    "blk.0.attn_k": (WIDTH, WIDTH),
    "blk.0.attn_v": (WIDTH, WIDTH),
    "blk.0.attn_output": (WIDTH, WIDTH),
    "blk.0.ffn_gate": (HIDDEN, WIDTH),
    "blk.0.ffn_up": (HIDDEN, WIDTH),
    "blk.0.ffn_down": (WIDTH, HIDDEN),
}
for name, shape in shapes.items():
    writer.add_tensor(f"{name}.weight", random.normal(0, 0.1, shape).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
