#!/usr/bin/env python3
"""Side-by-side reverse-proxy benchmark: interleaved rounds, medians, CPU per request.

  compare.py --list
  compare.py --scenario plain,rate,tls --rounds 5 --secs 3 --out out.json --md out.md
  compare.py --subject 'mine=BIN --port {port} --upstream {upstream_port}' --scenario plain
  compare.py --subject-json subject.json          (see README.md for the fields)

Standard library only. Everything listens on and is sent to 127.0.0.1. Stops only what it started.
"""
import argparse, base64, json, os, re, resource, shlex, shutil, signal, socket, ssl, statistics, subprocess, sys, tempfile, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf"
PEERS = Path(os.environ.get("PEERS") or Path(tempfile.gettempdir()) / "peers")
UP = 20900
STARTED = []          # Popen objects of ours
SIGNALS = []          # those that came while a process was being started: obeyed once it stands in STARTED, so that none is forgotten
STARTING = False


def on_signal(number, _frame):
    SIGNALS.append(number) if STARTING else sys.exit(128 + number)


# ---------------------------------------------------------------- keys and tokens
def sh(*a, **k):
    return subprocess.run(a, check=True, capture_output=True, **k).stdout


def b64(b):
    return base64.urlsafe_b64encode(b).rstrip(b"=").decode()


def make_keys(d):
    sh("openssl", "genrsa", "-out", str(d / "rs.pem"), "2048")
    sh("openssl", "rsa", "-in", str(d / "rs.pem"), "-pubout", "-out", str(d / "rs.pub"))
    for n in ("es", "tls"):
        sh("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(d / f"{n}.pem"))
    sh("openssl", "ec", "-in", str(d / "es.pem"), "-pubout", "-out", str(d / "es.pub"))
    sh("openssl", "req", "-x509", "-new", "-key", str(d / "tls.pem"), "-days", "3650", "-subj", "/CN=localhost",
       "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(d / "tls.crt"))
    (d / "tls.both").write_text((d / "tls.crt").read_text() + (d / "tls.pem").read_text())


def keys():
    d = PEERS / "keys"
    if not d.exists():
        new = Path(tempfile.mkdtemp(prefix="keys.", dir=PEERS))      # whole or not at all: a run may be ended here
        try:
            make_keys(new)
            new.rename(d)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    n = int(sh("openssl", "rsa", "-in", str(d / "rs.pem"), "-noout", "-modulus").decode().strip().split("=")[1], 16)
    point = sh("openssl", "ec", "-in", str(d / "es.pem"), "-pubout", "-outform", "DER")[-64:]
    k = {"rs_pub": str(d / "rs.pub"), "es_pub": str(d / "es.pub"),
         "cert": str(d / "tls.crt"), "key": str(d / "tls.pem"), "both": str(d / "tls.both"),
         "rs_jwks": json.dumps({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "rs",
                                          "n": b64(n.to_bytes(256, "big")), "e": "AQAB"}]}),
         "es_jwks": json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "es",
                                          "x": b64(point[:32]), "y": b64(point[32:])}]})}
    for a in ("rs", "es"):
        (d / f"{a}.jwks").write_text(k[f"{a}_jwks"])
        k[f"{a}_jwks_file"] = str(d / f"{a}.jwks")
        head = b64(json.dumps({"alg": a.upper() + "256", "typ": "JWT", "kid": a}, separators=(",", ":")).encode())
        body = b64(json.dumps({"iss": "bench", "aud": "svc", "sub": "user-1", "role": "reader", "tenant": "tenant-a",
                               "iat": 1700000000, "exp": 4102444800}, separators=(",", ":")).encode())
        sig = sh("openssl", "dgst", "-sha256", "-sign", str(d / f"{a}.pem"), input=f"{head}.{body}".encode())
        if a == "es":               # DER -> r||s
            out, i = b"", 2
            for _ in range(2):
                ln = sig[i + 1]
                out += sig[i + 2:i + 2 + ln].lstrip(b"\0").rjust(32, b"\0")
                i += 2 + ln
            sig = out
        k[f"jwt_{a}"] = f"{head}.{body}.{b64(sig)}"
        (d / f"{a}.token").write_text(k[f"jwt_{a}"])
    return k


def fill(name, **v):
    t = (CONF / name).read_text()
    for _ in range(3):
        t = re.sub(r"\{\{(\w+)\}\}", lambda m: str(v.get(m[1], "")), t)
    return t


# ---------------------------------------------------------------- the peers
SEEN = "backend seen\n    stick-table type binary len 32 size 100k expire 300s store gpc0\n"


# each: f(feature, v) -> (argv, env) or None when the peer has no such feature; v: port, up, dir and the keys
def haproxy(ft, v, jwt_cache=False):
    if jwt_cache and not ft.startswith(("jwt", "full")):
        return None
    c = dict(v, mode="http", **{"global": "", "defaults": "http-reuse always", "frontend": "", "backend": "", "bind": "", "cache": ""})
    def jwt(a):
        # jwt_cache: not a feature of HAProxy; a stick table of the hashes of tokens already verified (the best we found)
        verify = fill("haproxy.verify-cached.inc" if jwt_cache else "haproxy.verify.inc", jwt_pub=v[a + "_pub"]).rstrip()
        return fill("haproxy.jwt.inc", jwt_alg=a.upper() + "256", verify=verify)
    if jwt_cache:
        c["cache"] = SEEN
    rl = "    http-request track-sc0 hdr(x-tenant)\n    http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100000000 }\n"
    table = "    stick-table type string len 64 size 100k expire 60s store http_req_rate(1s)\n"
    if ft == "tls":
        c["bind"] = f"ssl crt {v['both']} ssl-min-ver TLSv1.3 alpn h2,http/1.1"
    elif ft == "rl":
        c["frontend"] = table + rl
    elif ft in ("jwt_rs", "jwt_es"):
        c["frontend"] = jwt(ft[4:])
    elif ft == "cache":
        c["cache"] = "cache c\n    total-max-size 64\n    max-object-size 1000000\n    max-age 3600\n"
        c["frontend"] = "    http-request cache-use c\n    http-response cache-store c\n"
    elif ft in ("full", "full_es"):
        c["cache"] += "cache c\n    total-max-size 64\n    max-object-size 1000000\n    max-age 3600\n"
        c["global"] = "log stdout format raw local0"
        c["defaults"] += "\n    log global\n    option httplog"
        c["frontend"] = (table.replace("store ", "store http_req_cnt,bytes_out_cnt,http_err_cnt,") + jwt("es" if ft == "full_es" else "rs")
                         + rl.replace("hdr(x-tenant)", "var(txn.tenant)")
                         + "    http-request cache-use c\n    http-response cache-store c\n"
                           "    http-request set-header x-tenant %[var(txn.tenant)]\n")
    elif ft != "plain":
        return None
    f = Path(v["dir"]) / "h.cfg"
    f.write_text(fill("haproxy.cfg.tmpl", **c))
    return ["haproxy", "-db", "-f", str(f)], {}


def haproxy_l4(ft, v):
    if ft != "plain":
        return None
    f = Path(v["dir"]) / "h.cfg"
    f.write_text(fill("haproxy.cfg.tmpl", **dict(v, mode="tcp")))
    return ["haproxy", "-db", "-f", str(f)], {}


def envoy(ft, v, jwt_cache=False):
    c = dict(v)
    fs = []
    a = "es" if ft.endswith("_es") else "rs"
    jwt = lambda: fill("envoy.jwt.inc", jwks=v[a + "_jwks"], jwt_cache="jwt_cache_config: {jwt_cache_size: 1000}," if jwt_cache else "")
    tenants = [f"tenant-{x}" for x in "abcdefgh"]
    if jwt_cache and not (ft.startswith("jwt") or ft.startswith("full")):
        return None
    if ft == "tls":
        c["tls"] = fill("envoy.tls.inc", **v)
    elif ft == "rl":
        fs.append(fill("envoy.rl.inc"))
    elif ft in ("jwt_rs", "jwt_es"):
        fs.append(jwt())
    elif ft == "cache":
        fs.append(fill("envoy.cache.inc"))
    elif ft in ("full", "full_es"):
        fs += [jwt(), fill("envoy.rl.inc", rl_descriptors=", ".join(
            f"{{entries: [{{key: tenant, value: {t}}}], "
            "token_bucket: {max_tokens: 100000000, tokens_per_fill: 100000000, fill_interval: 1s}}" for t in tenants)),
            fill("envoy.cache.inc")]
        c["rate_limits"] = "{actions: [{request_headers: {header_name: x-tenant, descriptor_key: tenant}}]}"
        c["virtual_clusters"] = ", ".join(
            f"{{name: {t}, headers: [{{name: x-tenant, string_match: {{exact: {t}}}}}]}}" for t in reversed(tenants))
        c["access_log"] = fill("envoy.accesslog.inc", **v)
    elif ft != "plain":
        return None
    c["filters"] = " ".join(x.strip() for x in fs)
    f = Path(v["dir"]) / "e.yaml"
    f.write_text(fill("envoy.yaml.tmpl", **c))
    return [str(PEERS / "bin" / "envoy"), "-c", str(f), "--concurrency", "1", "--disable-hot-restart", "-l", "error"], {}


def nginx(ft, v):
    c = dict(v, access_log="access_log off;")
    if ft == "h2":
        c["listen"] = "http2"
    elif ft == "tls":
        c["listen"] = "ssl"
        c["server"] = f"ssl_certificate {v['cert']}; ssl_certificate_key {v['key']}; ssl_protocols TLSv1.3;"
    elif ft == "rl":
        c["http"] = "limit_req_zone $http_x_tenant zone=t:10m rate=1000000r/s;"
        c["location"] = "limit_req zone=t burst=1000000 nodelay;"
    elif ft == "cache":
        c["http"] = f"proxy_cache_path {v['dir']}/cache levels=1:2 keys_zone=c:10m max_size=100m;"
        c["location"] = "proxy_cache c; proxy_cache_valid 200 1h;"
    elif ft != "plain":
        return None
    f = Path(v["dir"]) / "n.conf"
    f.write_text(fill("nginx.conf.tmpl", **c))
    return ["nginx", "-c", str(f), "-p", v["dir"]], {}


def varnish(ft, v):
    if ft not in ("cache", "plain", "h2"):
        return None
    f = Path(v["dir"]) / "v.vcl"
    f.write_text(fill("varnish.vcl.tmpl", **dict(v, recv="" if ft == "cache" else "return (pass);")))
    return ["varnishd", "-F", "-j", "none", "-n", v["dir"] + "/vn", "-a", f"127.0.0.1:{v['port']}", "-f", str(f), "-s", "malloc,256m",
            "-p", "thread_pools=1"] + (["-p", "feature=+http2"] if ft == "h2" else []), {}


def pingora(ft, v):
    if ft not in ("plain", "tls"):
        return None
    return [str(PEERS / "bin" / "pingora-min"), str(v["port"]), str(v["up"]), "1"] + ([v["cert"], v["key"]] if ft == "tls" else []), {}


def relay(ft, v):
    return ([str(PEERS / "bin" / "relay"), str(v["port"]), str(v["up"])], {}) if ft == "plain" else None


BUILTIN = {"haproxy-l4": haproxy_l4, "tokio-relay": relay,
           "haproxy": haproxy, "haproxy-jwtcache": lambda f, v: haproxy(f, v, True), "nginx": nginx, "envoy": envoy,
           "envoy-jwtcache": lambda f, v: envoy(f, v, True), "pingora": pingora, "varnish": varnish}


# ---------------------------------------------------------------- scenarios
# feature: which configuration a subject starts with. h2 falls back to the plain configuration (peers that sniff the preface).
SCEN = {
    "plain":    dict(kind="wrk", feature="plain", path="/1k", conns=64, what="h1 keep-alive, 1 KiB, 64 connections, closed loop"),
    "rate":     dict(kind="lg", feature="plain", path="/1k", conns=64,
                     what="h1, 1 KiB, open loop at --rate, latency from intended send time"),
    "body64k":  dict(kind="wrk", feature="plain", path="/64k", conns=16, size=65536, what="h1, 64 KiB bodies"),
    "body1m":   dict(kind="wrk", feature="plain", path="/1m", conns=8, size=1 << 20, what="h1, 1 MiB bodies"),
    "h2":       dict(kind="h2load", feature="h2", path="/1k", conns=1, streams=100,
                     what="h2c downstream, 1 connection x 100 streams, h1 upstream"),
    "tls":      dict(kind="wrk", feature="tls", path="/1k", conns=64, tls=True, what="TLS 1.3 h1 keep-alive"),
    "tlsnew":   dict(kind="wrk", feature="tls", path="/1k", conns=16, tls=True, close=True,
                     what="TLS 1.3, a new connection (full handshake, P-256) each request"),
    "rl":       dict(kind="wrk", feature="rl", path="/1k", conns=64, what="local rate limit keyed by tenant, never rejecting"),
    "jwt_rs":   dict(kind="wrk", feature="jwt_rs", path="/1k", conns=64, token="jwt_rs", what="RS256 JWT + RBAC on each request"),
    "jwt_es":   dict(kind="wrk", feature="jwt_es", path="/1k", conns=64, token="jwt_es", what="ES256 JWT + RBAC on each request"),
    "cache1k":  dict(kind="wrk", feature="cache", path="/c1k", conns=64, what="cache hit, 1 KiB"),
    "cache64k": dict(kind="wrk", feature="cache", path="/c64k", conns=16, size=65536, what="cache hit, 64 KiB"),
    "full":     dict(kind="wrk", feature="full", path="/1k", conns=64, token="jwt_rs",
                     what="full stack (RS256): JWT+RBAC+rate limit+cache miss+per-tenant stats+JSON access log"),
    "full_es":  dict(kind="wrk", feature="full_es", path="/1k", conns=64, token="jwt_es", what="full stack (ES256)"),
    "fullrate": dict(kind="lg", feature="full", path="/1k", conns=64, token="jwt_rs", what="full stack (RS256), open loop at --rate"),
    "idle1k":   dict(kind="idle", feature="plain", path="/1k", conns=1000, what="RSS per 1,000 idle keep-alive connections (1,000 held)"),
    "idle10k":  dict(kind="idle", feature="plain", path="/1k", conns=9900, what="RSS per 1,000 idle keep-alive connections (9,900 held)"),
    "cold":     dict(kind="cold", feature="plain", path="/1k", conns=1, what="exec to first proxied 200; idle RSS after"),
}


# ---------------------------------------------------------------- /proc
def tree(pid):
    kids = {}
    for p in os.listdir("/proc"):
        if p.isdigit():
            try:
                s = Path(f"/proc/{p}/stat").read_text()
                kids.setdefault(int(s.rsplit(")", 1)[1].split()[1]), []).append(int(p))
            except OSError:
                pass
    out, todo = [], [pid]
    while todo:
        x = todo.pop()
        out.append(x)
        todo += kids.get(x, [])
    return out


def cpu(pid):
    """(seconds on CPU from schedstat, user seconds, system seconds, voluntary context switches) of the process tree"""
    run = u = s = cs = 0.0
    tick = os.sysconf("SC_CLK_TCK")
    for p in tree(pid):
        try:
            f = Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
            u += int(f[11]) / tick
            s += int(f[12]) / tick
            for t in os.listdir(f"/proc/{p}/task"):
                run += int(Path(f"/proc/{p}/task/{t}/schedstat").read_text().split()[0]) / 1e9
                cs += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{p}/task/{t}/status").read_text(), re.M)[1])
        except (OSError, IndexError, TypeError):
            pass
    return (run or u + s), u, s, cs


def rss(pid, field="VmHWM"):
    t = 0
    for p in tree(pid):
        try:
            m = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{p}/status").read_text(), re.M)
            t += int(m[1]) if m else 0
        except OSError:
            pass
    return t


def steal():
    f = Path("/proc/stat").read_text().split("\n")[0].split()
    return int(f[8])


# ---------------------------------------------------------------- starting and stopping
def spawn(argv, cpus, env=None, out=None):
    o = open(out, "ab") if out else subprocess.DEVNULL
    # stdout and stderr to files: stdout may be an access log
    if cpus is not None:
        argv = ["taskset", "-c", cpus] + argv
    global STARTING
    STARTING = True
    try:
        p = subprocess.Popen(argv, stdout=o, stderr=open(out + ".err", "ab") if out else subprocess.DEVNULL,
                             env=dict(os.environ, **(env or {})), start_new_session=True)
        STARTED.append(p)
    finally:
        STARTING = False
    if SIGNALS:
        sys.exit(128 + SIGNALS[0])
    return p


def stop(p):
    if p.poll() is None:
        p.send_signal(signal.SIGTERM)
        try:
            p.wait(2)
        except subprocess.TimeoutExpired:
            for x in tree(p.pid):
                try:
                    os.kill(x, signal.SIGKILL)
                except OSError:
                    pass
            p.wait()
    if p in STARTED:
        STARTED.remove(p)


def get(port, path, headers, tls=False, timeout=1.0, h2=False):
    """one request; returns the status or raises OSError"""
    s = socket.create_connection(("127.0.0.1", port), timeout)
    try:
        if h2:
            s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            return 200 if s.recv(9) else 0
        if tls:
            x = ssl.create_default_context()
            x.check_hostname, x.verify_mode = False, ssl.CERT_NONE
            s = x.wrap_socket(s, server_hostname="localhost")
        s.sendall((f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {w}\r\n" for k, w in headers.items()) + "\r\n").encode())
        r = s.recv(4096)
        return int(r.split()[1]) if r else 0
    finally:
        s.close()


def wait_ready(sub, secs=20, step=0.02):
    t0 = time.monotonic()
    last = None
    while time.monotonic() - t0 < secs:
        if sub["proc"] and sub["proc"].poll() is not None:
            return f"exited {sub['proc'].returncode}"
        try:
            last = get(sub["port"], sub["ready"], sub["headers"], sub["tls"], h2=sub["h2only"])
            if last == 200:
                return None
        except (OSError, ValueError, IndexError) as e:
            last = e
        time.sleep(step)
    return f"not ready: {last}"


def forged_accepted(sub):
    """a proxy that lets a token with a broken signature through is not doing the work that this scenario measures"""
    t = sub["headers"]["Authorization"]
    i = len(t) - 40
    bad = t[:i] + ("A" if t[i] != "A" else "B") + t[i + 1:]
    for h, what in ((bad, "forged"), (None, "no")):
        hd = {k: w for k, w in sub["headers"].items() if k != "Authorization"}
        if h:
            hd["Authorization"] = h
        try:
            if get(sub["port"], sub["ready"], hd, sub["tls"]) == 200:
                return f"answers 200 to a request with {what} token"
        except (OSError, ValueError, IndexError):
            pass
    return None


# ---------------------------------------------------------------- load
LUA = """done = function(s, l, r)
  local e = s.errors
  io.write(string.format('JSON{"requests":%d,"bytes":%d,"dur":%d,"errors":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d}\\n',
    s.requests, s.bytes, s.duration, e.connect + e.read + e.write + e.status + e.timeout,
    l:percentile(50), l:percentile(99), l:percentile(99.9)))
end
"""


def load(sc, sub, secs, a, work):
    hs = [x for k, w in sub["headers"].items() for x in ("-H", f"{k}: {w}")]
    cpus = ["taskset", "-c", a.load_cpus] if a.load_cpus else []
    path = sub["prefix"] + sc["path"]
    if sc["kind"] == "wrk":
        lua = Path(work) / "r.lua"
        lua.write_text(LUA)
        if sc.get("close"):
            hs += ["-H", "Connection: close"]
        url = f"http{'s' if sc.get('tls') else ''}://127.0.0.1:{sub['port']}{path}"
        wrk = ["wrk", "-t1", f"-c{sc['conns']}", f"-d{secs}s", "--latency", "--timeout", "5s", "-s", str(lua)]
        o = subprocess.run(cpus + wrk + hs + [url], capture_output=True, text=True, timeout=secs + 30)
        m = re.search(r"JSON(\{.*\})", o.stdout)
        if not m:
            return {"requests": 0, "errors": 1, "note": (o.stdout + o.stderr)[-200:]}
        r = json.loads(m[1])
        r["rps"] = r["requests"] / (r["dur"] / 1e6)
        return r
    if sc["kind"] == "lg":
        o = subprocess.run(cpus + [str(PEERS / "bin" / "lg"), str(sub["port"]), path, str(a.rate), str(secs), str(sc["conns"])] +
                           [f"{k}: {w}" for k, w in sub["headers"].items()], capture_output=True, text=True, timeout=secs + 30)
        try:
            r = json.loads(o.stdout)
        except ValueError:
            return {"requests": 0, "errors": 1, "note": (o.stdout + o.stderr)[-200:]}
        r["cpu_requests"] = r["offered"]
        r["rps"] = r["requests"] / (secs * 0.9)
        return r
    if sc["kind"] == "h2load":
        hs = [x for y, w in sub["headers"].items() for x in ("-H", f"{':authority' if y.lower() == 'host' else y.lower()}: {w}")]
        log = Path(work) / "h2.log"
        log.unlink(missing_ok=True)
        h2load = ["h2load", "-c", str(sc["conns"]), "-m", str(sc["streams"]), "-t1", "-D", str(secs), "--log-file", str(log)]
        o = subprocess.run(cpus + h2load + hs + [f"http://127.0.0.1:{sub['port']}{path}"],
                           capture_output=True, text=True, timeout=secs + 30)
        lat, bad = [], 0
        if log.exists():
            for line in log.read_text().splitlines():
                f = line.split("\t")
                if len(f) == 3:
                    lat.append(int(f[2]))
                    bad += f[1] != "200"
        if not lat:
            return {"requests": 0, "errors": 1, "note": (o.stdout + o.stderr)[-200:]}
        lat.sort()
        q = lambda p: lat[min(len(lat) - 1, int(len(lat) * p))]
        return {"requests": len(lat), "errors": bad, "rps": len(lat) / secs, "p50_us": q(.5), "p99_us": q(.99), "p999_us": q(.999)}


def idle(sc, sub, a):
    base = rss(sub["proc"].pid, "VmRSS")
    req = (f"GET {sub['prefix']}{sc['path']} HTTP/1.1\r\n" + "".join(f"{k}: {w}\r\n" for k, w in sub["headers"].items()) + "\r\n").encode()
    ss, err = [], 0
    try:
        for _ in range(sc["conns"]):
            try:
                s = socket.create_connection(("127.0.0.1", sub["port"]), 5)
                s.sendall(req)
                got = s.recv(65536)
                while b"\r\n\r\n" not in got or len(got) - got.index(b"\r\n\r\n") - 4 < 1024:
                    x = s.recv(65536)
                    if not x:
                        raise OSError("closed")
                    got += x
                ss.append(s)
            except OSError:
                err += 1
                if err > 50:
                    break
        time.sleep(1.0)
        now = rss(sub["proc"].pid, "VmRSS")
        return {"errors": err, "idle_rss_mb": base / 1024, "held": len(ss), "rss_held_mb": now / 1024,
                "kb_per_1000": (now - base) / max(1, len(ss)) * 1000, "requests": len(ss)}
    finally:
        for s in ss:
            s.close()


# ---------------------------------------------------------------- main
def setup(name, spec, sc, port, base, k, a):
    """a started subject for this scenario, or None"""
    d = base / f"{name}-{sc['feature']}"
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    v = dict(k, port=port, up=UP, upstream_port=UP, dir=str(d))
    hd = {"Host": "tenant-a.bench", "x-tenant": "tenant-a"}
    if sc.get("token"):
        hd["Authorization"] = "Bearer " + k[sc["token"]]
    ready, prefix, h2only, env = None, "", False, {}
    if callable(spec):
        r = spec(sc["feature"], v)
        if r is None and sc["feature"] == "h2" and spec not in (haproxy_l4, relay):
            r = spec("plain", v)
        if r is None:
            return None
        argv, env = r
        h2only = sc["feature"] == "h2" and spec is nginx
    else:
        if spec.get("features", {}).get(sc["feature"], {}) is None:
            return None
        over = spec.get("features", {}).get(sc["feature"])
        if over is None and sc["feature"] == "h2":
            over = spec.get("features", {}).get("plain", {})
        if over is None:
            if spec.get("features") and sc["feature"] != "plain":
                return None
            over = {}
        s = {**spec, **over}
        sub_ = lambda x: re.sub(r"\{(\w+)\}", lambda m: str(v.get(m[1], m[0])), x)
        cmd = s["cmd"]
        argv = [sub_(x) for x in (shlex.split(cmd) if isinstance(cmd, str) else cmd)]
        env = {x: sub_(str(y)) for x, y in s.get("env", {}).items()}
        for f, text in s.get("files", {}).items():            # {"conf.toml": "listen = '127.0.0.1:{port}'"} -> {dir}/conf.toml
            (d / f).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(text, dict) and list(text) == ["template"]:      # a file beside the subject's own
                text = (spec["beside"] / text["template"]).read_text()
            (d / f).write_text(sub_(text if isinstance(text, str) else json.dumps(text)))
        hd.update({x: sub_(y) for x, y in s.get("headers", {}).items()})
        for x in s.get("drop_headers", []):
            hd.pop(x, None)
        ready, prefix, h2only = s.get("ready"), s.get("path_prefix", ""), s.get("h2only", False) and sc["feature"] == "h2"
        port = int(s.get("port", port))
    sub = dict(name=name, port=port, headers=hd, tls=sc.get("tls", False), prefix=prefix, ready=ready or prefix + sc["path"],
               h2only=h2only, argv=argv, env=env, dir=d, proc=None)
    return sub


def start(sub, a):
    sub["t_exec"] = time.monotonic()
    sub["proc"] = spawn(sub["argv"], a.proxy_cpus, sub["env"], str(sub["dir"] / "out"))


def run_scenario(sname, subjects, k, a, base):
    sc = dict(SCEN[sname])
    if a.conns and sc["kind"] in ("wrk", "lg"):
        sc["conns"] = a.conns
    subs, res, skipped = [], {}, {}
    for i, (name, spec) in enumerate(subjects.items()):
        if name == "direct":
            if sc["kind"] in ("idle", "cold") or sc.get("tls") or sc["feature"] not in ("plain", "h2") or sc["kind"] == "h2load":
                continue
            s = dict(name=name, port=UP, headers={"Host": "bench"}, tls=False, prefix="", ready=sc["path"],
                     h2only=False, proc=a.upstream_proc, argv=[])
        else:
            s = setup(name, spec, sc, 21000 + i, base, k, a)
            if s is None:
                continue
            if sc["kind"] not in ("cold",):
                start(s, a)
                bad = wait_ready(s) or (forged_accepted(s) if sc.get("token") else None)
                if bad:
                    skipped[name] = bad
                    stop(s["proc"])
                    continue
        subs.append(s)
        res[name] = []
    if sc["kind"] in ("wrk", "lg", "h2load") and subs:
        for s in subs:
            load(sc, s, 1, a, base)
        for r in range(a.rounds):
            order = subs[r % len(subs):] + subs[:r % len(subs)]
            for s in order:
                st0, c0, t0 = steal(), cpu(s["proc"].pid), time.monotonic()
                x = load(sc, s, a.secs, a, base)
                t1, c1, st1 = time.monotonic(), cpu(s["proc"].pid), steal()
                n = x.get("cpu_requests", x["requests"]) or 1
                x.update(cpu_us=(c1[0] - c0[0]) / n * 1e6, user_us=(c1[1] - c0[1]) / n * 1e6,
                         sys_us=(c1[2] - c0[2]) / n * 1e6, csw=(c1[3] - c0[3]) / n,
                         busy=(c1[0] - c0[0]) / (t1 - t0) * 100, steal=st1 - st0, rss_mb=rss(s["proc"].pid) / 1024)
                if sc.get("size"):
                    x["mbps"] = x["rps"] * sc["size"] / 1e6
                    x["cpu_us_per_mb"] = x["cpu_us"] / (sc["size"] / 1e6)
                res[s["name"]].append(x)
    elif sc["kind"] == "idle":
        for s in subs:
            res[s["name"]].append(idle(sc, s, a))
    elif sc["kind"] == "cold":
        for r in range(a.rounds):
            for s in subs:
                start(s, a)
                bad = wait_ready(s, step=0.0005)
                t = time.monotonic() - s["t_exec"]
                time.sleep(0.5)
                c = cpu(s["proc"].pid)
                res[s["name"]].append({"requests": 1, "errors": 1 if bad else 0, "cold_ms": t * 1000,
                                       "idle_rss_mb": rss(s["proc"].pid, "VmRSS") / 1024, "start_cpu_ms": c[0] * 1000})
                stop(s["proc"])
                time.sleep(0.1)
    for s in subs:
        if s["name"] != "direct" and s["proc"] and sc["kind"] != "cold":
            stop(s["proc"])
    return sc, res, skipped


COLS = [("rps", "req/s", "%.0f"), ("mbps", "MB/s", "%.0f"), ("cpu_us", "CPU µs/req", "%.1f"), ("cpu_lo_hi", "(min–max)", "%s"),
        ("user_us", "user", "%.1f"), ("sys_us", "sys", "%.1f"), ("cpu_us_per_mb", "CPU µs/MB", "%.0f"),
        ("p50_us", "p50 µs", "%.0f"), ("p99_us", "p99 µs", "%.0f"), ("p999_us", "p99.9 µs", "%.0f"),
        ("csw", "ctx sw/req", "%.2f"), ("busy", "proxy CPU %", "%.0f"), ("rss_mb", "peak RSS MB", "%.1f"),
        ("cold_ms", "cold start ms", "%.1f"), ("start_cpu_ms", "start CPU ms", "%.0f"), ("idle_rss_mb", "idle RSS MB", "%.1f"),
        ("rss_held_mb", "RSS held MB", "%.1f"), ("kb_per_1000", "KiB per 1,000 conns", "%.0f"),
        ("held", "held", "%d"), ("errors", "errors", "%d")]


def summarise(res):
    out = {}
    for n, rs in res.items():
        if not rs:
            continue
        m = {}
        for key, _, _ in COLS:
            vals = [r[key] for r in rs if key in r]
            if vals:
                m[key] = sum(vals) if key == "errors" else statistics.median(vals)
        cs = [r["cpu_us"] for r in rs if "cpu_us" in r]
        if cs:
            m["cpu_lo_hi"] = f"{min(cs):.1f}–{max(cs):.1f}"
        out[n] = m
    return out


def table(sname, sc, summ, skipped, a):
    cols = [c for c in COLS if any(c[0] in m for m in summ.values())]
    how = (f"{a.rounds} interleaved rounds x {a.secs} s; proxy CPUs {a.proxy_cpus or 'any'}, load and upstream CPUs {a.load_cpus or 'any'}"
           + (f"; {a.rate}/s" if sc["kind"] == "lg" else "") + ("; CPUs kept awake" if a.awake else "") + ".")
    t = [f"### {sname}: {sc['what']}", "", how, "",
         "| proxy | " + " | ".join(c[1] for c in cols) + " |", "|---|" + "---:|" * len(cols)]
    for n, m in summ.items():
        t.append(f"| {n} | " + " | ".join((c[2] % m[c[0]]) if c[0] in m else "" for c in cols) + " |")
    for n, why in skipped.items():
        t.append(f"\n{n}: skipped ({why})")
    return "\n".join(t) + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--scenario", default="plain", help="comma list, or all")
    ap.add_argument("--only", help="comma list of built-in peers (default all); 'none' for no peer")
    ap.add_argument("--subject", action="append", default=[], help="NAME=CMD with {port} {upstream_port} {cert} {key} {dir}")
    ap.add_argument("--subject-json", action="append", default=[], help="file: one subject object or a list of them")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--secs", type=int, default=3)
    ap.add_argument("--rate", type=int, default=3000)
    ap.add_argument("--conns", type=int)
    ap.add_argument("--pin", choices=["split", "none", "one"], default="split",
                    help="split: proxy on CPU 1, load and upstream on CPU 0; none: anywhere; "
                         "one: all on CPU 1 (no wake-ups across CPUs: for latency at a low rate)")
    ap.add_argument("--awake", action="store_true",
                    help="a SCHED_IDLE spinner on each CPU, so that none sleeps "
                         "(lowers p50 at a low rate, spoils p99: --pin one is better)")
    ap.add_argument("--out"), ap.add_argument("--md"), ap.add_argument("--list", action="store_true")
    a = ap.parse_args()
    scenarios = list(SCEN) if a.scenario == "all" else a.scenario.split(",")
    for what, given, known in (("scenario", scenarios, SCEN), ("peer", (a.only or "none").split(","), ["none", "direct", *BUILTIN])):
        for n in given:
            if n not in known:
                ap.error(f"no {what} is named {n!r}; there are: {', '.join(known)}")
    if a.list:
        for n, s in SCEN.items():
            print(f"{n:9} {s['what']}")
        print("peers:", ", ".join(["direct"] + list(BUILTIN)))
        return
    for tool in ("upstream", "lg"):
        if not (PEERS / "bin" / tool).exists():
            sys.stderr.write(f"{PEERS / 'bin' / tool} is not there: install.sh brings it\n")
            sys.exit(69)
    a.proxy_cpus, a.load_cpus = {"split": ("1", "0"), "none": (None, None), "one": ("1", "1")}[a.pin]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, on_signal)      # so that what is cleaned up at the end is cleaned up
    k = keys()
    subjects = {"direct": None, **BUILTIN}
    if a.only:
        names = a.only.split(",")
        subjects = {} if names == ["none"] else {n: subjects[n] for n in names}
    for s in a.subject:
        n, c = s.split("=", 1)
        subjects[n] = {"cmd": c}
    for f in a.subject_json:
        o = json.loads(Path(f).read_text())
        for s in o if isinstance(o, list) else [o]:
            subjects[s["name"]] = dict(s, beside=Path(f).resolve().parent)
    base = PEERS / "run" / str(os.getpid())
    base.mkdir(parents=True)
    everything = {}
    try:
        if a.awake:
            for c in range(os.cpu_count() or 1):
                spawn(["chrt", "-i", "0", "timeout", "1800", sys.executable, "-c", "while True: pass"], str(c))
        a.upstream_proc = spawn([str(PEERS / "bin" / "upstream"), str(UP)], a.load_cpus)
        time.sleep(0.3)
        if a.upstream_proc.poll() is not None:
            sys.exit(f"the upstream did not start: is port {UP} taken by another run?")
        for sn in scenarios:
            t0 = time.time()
            sc, res, skipped = run_scenario(sn, subjects, k, a, base)
            summ = summarise(res)
            everything[sn] = {"rounds": res, "median": summ, "skipped": skipped}
            t = table(sn, sc, summ, skipped, a)
            print(t, f"({time.time() - t0:.0f} s)\n", flush=True)
            if a.md:
                with open(a.md, "a") as f:
                    f.write(t + "\n")
            if a.out:
                Path(a.out).write_text(json.dumps(everything, indent=1))
    finally:
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, signal.SIG_IGN)     # a second one must not leave the rest running
        for p in list(STARTED):
            stop(p)
        shutil.rmtree(base, ignore_errors=True) if not os.environ.get("KEEP") else None


if __name__ == "__main__":
    main()
