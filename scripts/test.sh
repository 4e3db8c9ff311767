#!/usr/bin/env bash
# Tests, and beside them lint, types and import contracts: those want one processor for a minute, while the stacks under
# test wait for each other. What they said comes last. The first argument is the interpreter, the rest is for pytest.
set -u
python="${1:?expected the interpreter of the virtual environment}"
shift
said="$(mktemp)"
make --no-print-directory lint >"$said" 2>&1 &
lint=$!
trap 'kill "$lint" 2>/dev/null; wait; rm -f "$said"' EXIT

# Three processes on two cores: the tests wait half of the time.
"$python" -m pytest -n 3 --dist loadfile --no-loadscope-reorder "$@"
tests=$?
if [ "$tests" -eq 2 ]; then
  exit 2 # interrupted
fi
wait "$lint"
checks=$?
cat "$said"
if [ "$tests" -ne 0 ]; then
  exit "$tests"
fi
exit "$checks"
