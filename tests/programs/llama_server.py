"""llama.cpp's server, with the options of ``llama-server``, as the package xllamacpp has it: a library."""

from __future__ import annotations

import argparse
import signal

import xllamacpp

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ctx-size", type=int, default=0)
parser.add_argument("--embeddings", action="store_true")
parser.add_argument("--pooling", choices=["mean"])
options = parser.parse_args()

params = xllamacpp.CommonParams()
params.model.path = options.model
params.hostnames = [options.host]
params.port = options.port
params.n_ctx = options.ctx_size
params.embedding = options.embeddings
if options.pooling:
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
signal.signal(signal.SIGTERM, lambda *_: exit(0))
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
while True:
    signal.pause()
