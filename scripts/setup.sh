#!/usr/bin/env bash
# Sets a fresh machine up: a virtual environment with the pinned packages, and redis-server. Safe to run again.
#   --check   only make sure that redis-server is still there
#   --tests   make sure of what the tests and the development stack's monitoring add: Prometheus, Alertmanager, Chromium, ffprobe
#   --torch   add PyTorch, for train jobs; it is an extra, for it weighs hundreds of megabytes
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs apt-get if we may (root, or sudo without a password); fails quietly otherwise.
apt_install() {
  command -v apt-get >/dev/null 2>&1 || return 1
  local as=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    as=(sudo -n)
  fi
  say "installing $* with apt-get"
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null &&
    "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

ensure_redis() {
  command -v redis-server >/dev/null 2>&1 && return
  # The package starts a server of its own; ours are started by whoever needs one, on free ports.
  apt_install redis-server || true
  command -v redis-server >/dev/null 2>&1 ||
    die "redis-server is missing and could not be installed. Install it, for example: sudo apt-get install redis-server"
}

find_python() {
  local candidate
  for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is missing. Install it, for example: sudo apt-get install python3 python3-venv"
}

make_environment() {
  local python
  python="$(find_python)"
  if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
      apt_install python3-venv || true
      rm -rf .venv
      "$python" -m venv .venv ||
        die "the venv module of $python does not work. Install it, for example: sudo apt-get install python3-venv"
    fi
  fi
  say "installing the packages of requirements.lock (a few minutes the first time)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
  touch .venv/.overspill-setup
  say "ready"
}

# Only torch comes from outside requirements.lock: which build fits (CPU, or which CUDA) is the machine's to say.
# Everything else that it needs on a CPU is in the lock and installed by now.
ensure_torch() {
  .venv/bin/python -c 'import torch' 2>/dev/null && return
  say "installing torch"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 ||
    die "torch 2.13.0 could not be installed. Train jobs need it: .venv/bin/pip install torch==2.13.0"
}

ensure_test_programs() {
  local missing=()
  command -v promtool >/dev/null 2>&1 || missing+=(prometheus)
  command -v amtool >/dev/null 2>&1 || missing+=(prometheus-alertmanager)
  command -v chromium >/dev/null 2>&1 || missing+=(chromium)
  command -v ffprobe >/dev/null 2>&1 || missing+=(ffmpeg)
  [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}" ||
    say "could not install ${missing[*]}: the tests that need them will be skipped"
}

case "${1:-}" in
  --check) ensure_redis ;;
  --tests) ensure_test_programs ;;
  --torch) ensure_torch ;;
  *) ensure_redis; make_environment ;;
esac
