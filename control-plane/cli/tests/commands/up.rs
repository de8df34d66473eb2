//! `bulkhead up`, and what the other commands make of a running one.

use crate::support::running::{Process, Up, ask, eventually, up};
use crate::support::{Home, Said, samples};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

const DEMO: &[&str] = &["--demo-address", "127.0.0.1:0"];

#[test]
fn the_first_start_fills_the_folder_and_the_next_one_keeps_what_the_user_made_of_it() {
    let home = Home::new();
    let dir = home.path(".local/share/bulkhead/dev");
    let first = Up::start(&home, DEMO);
    for (file, mode) in [("admin.token", 0o600), ("issuer.key.pem", 0o600), ("admin.sock", 0o600)] {
        assert_eq!(std::fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    for file in ["platform.yaml", "tenants/acme_corp.yaml", "tenants/globex.yaml", "issuer.jwks.json"] {
        assert!(dir.join("documents").join(file).is_file(), "{file}");
    }
    let contexts = std::fs::read_to_string(home.path(".config/bulkhead/contexts.json")).unwrap();
    let contexts: serde_json::Value = serde_json::from_str(&contexts).unwrap();
    assert_eq!(contexts["contexts"]["dev"]["data_dir"], dir.to_str().unwrap());
    assert_eq!(first.end("-TERM").code, 0);

    let key = std::fs::read(dir.join("issuer.key.pem")).unwrap();
    std::fs::remove_file(dir.join("documents/tenants/globex.yaml")).unwrap();
    let second = Up::start(&home, DEMO);
    assert_eq!(second.get("globex.localhost", "/healthz", &[]).status, 404);
    assert_eq!(std::fs::read(dir.join("issuer.key.pem")).unwrap(), key);
    let bearer = second.bearer("acme_corp", "reader");
    assert_eq!(second.get("acme.localhost", "/v1/items", &[("authorization", &bearer)]).status, 200);
}

/// The very lines that a newcomer pastes.
#[test]
fn every_line_that_it_prints_does_what_it_says() {
    let home = Home::new();
    let up = Up::start(&home, DEMO);
    let tries = up.told["try"].as_array().unwrap();
    assert!(tries.len() >= 10, "{tries:?}");
    for one in tries {
        let (line, shows) = (one["line"].as_str().unwrap(), one["shows"].as_str().unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env_clear().env("HOME", home.path("")).env("PATH", std::env::var_os("PATH").unwrap());
        let said: Said = shell.output().unwrap().into();
        let last = said.stdout.lines().rfind(|line| line.starts_with("HTTP/1.1 ")).and_then(|line| line.split(' ').nth(1));
        let expected = one["status"].as_u64().map(|status| status.to_string());
        assert_eq!(last, expected.as_deref(), "{shows}: {said:?}");
        if expected.is_none() {
            assert!(said.code == 0 && said.stdout.contains("because"), "{shows}: {said:?}");
        }
    }
}

#[test]
fn the_demo_service_shows_what_it_was_told() {
    let home = Home::new();
    let up = Up::start(&home, DEMO);
    let bearer = up.bearer("acme_corp", "editor");
    let answer = up.get("acme.localhost", "/v1/items", &[("authorization", &bearer), ("x-bulkhead-tenant", "globex")]);
    let told = &answer.json()["told"];
    assert_eq!((told["tenant"].as_str(), told["user"].as_str()), (Some("acme_corp"), Some("demo-user")), "{answer:?}");
    assert!(told["decision_id"].as_str().unwrap().starts_with("d-"));
    let roles: Vec<&str> = told["roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
    assert!(roles.contains(&"editor"), "{roles:?}");
}

#[test]
fn a_second_one_on_the_same_directory_is_told_so() {
    let home = Home::new();
    let _first = Up::start(&home, DEMO);
    let said = home.bulkhead(&["up"]);
    assert_eq!(said.code, 69, "{said:?}");
    assert!(said.stderr.contains("another bulkhead runs on"), "{said:?}");
    assert!(said.stderr.contains("--data-dir"), "{said:?}");
}

/// Or the lines that the first one printed would get tokens of the second.
#[test]
fn a_second_one_elsewhere_says_that_commands_mean_it_and_gives_the_context_back() {
    let home = Home::new();
    let first = Up::start(&home, DEMO);
    let at = |said: &Said| said.stdout.lines().find(|line| line.starts_with("source")).map(str::to_owned);
    let before = at(&home.bulkhead(&["status"])).unwrap();
    let second = Up::start(&home, &[DEMO, &["--data-dir", "second"]].concat());
    let told = second.told["warnings"][0].as_str().unwrap();
    assert!(told.contains("commands mean this bulkhead now") && told.contains(first.told["data_dir"].as_str().unwrap()), "{told}");
    assert!(at(&home.bulkhead(&["status"])).unwrap().contains("second"));
    assert_eq!(second.end("-TERM").code, 0);
    assert_eq!(at(&home.bulkhead(&["status"])), Some(before));
}

#[test]
fn documents_without_a_service_are_not_called_ready() {
    let home = Home::new();
    home.write("mine/plan.yaml", "kind: Plan\nname: basic\ndefault: true\n");
    let mut line = home.command(&["up", "--documents", "mine", "--probe-address", "127.0.0.1:0", "--api-address", "127.0.0.1:0"]);
    let mut started = Process(line.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut first = String::new();
    BufReader::new(started.0.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("bulkhead dev runs and serves nothing"), "{first}");
}

#[test]
fn a_taken_address_is_named_with_what_changes_it() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, fix) in [
        ("--listen", "serve the demo elsewhere with --listen"),
        ("--probe-address", "--probe-address"),
        ("--demo-address", "--demo-address"),
    ] {
        // A flag that stands twice would be a mistake: each is given once here.
        let mut line = vec!["up"];
        for one in ["--listen", "--probe-address", "--demo-address"] {
            line.extend([one, if one == flag { &address } else { "127.0.0.1:0" }]);
        }
        let said = home.bulkhead(&line);
        assert_eq!(said.code, 69, "{flag}: {said:?}");
        assert!(said.stderr.contains(&address) && said.stderr.contains(fix), "{flag}: {said:?}");
    }
}

#[test]
fn a_key_set_that_the_documents_name_and_nobody_has_is_made_beside_them() {
    let home = Home::new();
    let platform = std::fs::read(samples().join("platform.yaml")).unwrap();
    home.write("mine/platform.yaml", &platform);
    home.write("mine/acme.yaml", std::fs::read(samples().join("tenants/acme_corp.yaml")).unwrap());
    let line = ["--documents", "mine", "--demo-address", "127.0.0.1:0"];
    let up = Up::start(&home, &line);
    let made = home.path("mine/issuer.jwks.json");
    assert!(up.told["warnings"][0].as_str().unwrap().contains(made.to_str().unwrap()), "{}", up.told);
    let bearer = up.bearer("acme_corp", "reader");
    assert_eq!(up.get("acme.localhost", "/v1/items", &[("authorization", &bearer)]).status, 200);
    assert_eq!(std::fs::read(home.path("mine/platform.yaml")).unwrap(), platform);
    drop(up);

    // Another data directory has another key: it is said, and the file is kept.
    let kept = std::fs::read(&made).unwrap();
    let other = Up::start(&home, &[&line[..], &["--data-dir", "other"]].concat());
    assert!(other.told["warnings"][0].as_str().unwrap().contains("holds another key"), "{}", other.told);
    assert_eq!(std::fs::read(&made).unwrap(), kept);
}

#[test]
fn another_upstream_gets_the_demos_requests_and_the_bundled_service_stays_away() {
    let home = Home::new();
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", origin.local_addr().unwrap());
    let up = Up::start(&home, &["--upstream", &url]);
    assert!(up.told["demo"].is_null());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = origin.accept().unwrap();
        let mut head = [0; 4096];
        let read = stream.read(&mut head).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nmine").unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    });
    let answer = up.get("acme.localhost", "/healthz", &[]);
    assert_eq!((answer.status, answer.body.as_str()), (200, "mine"));
    assert!(served.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\n"));
    let platform = std::fs::read_to_string(home.path(".local/share/bulkhead/dev/documents/platform.yaml")).unwrap();
    assert!(platform.contains("http://127.0.0.1:4789"), "the document stays as it is");
}

#[test]
fn a_signal_ends_it_in_order_and_nothing_is_left_that_looks_alive() {
    for signal in ["-TERM", "-INT"] {
        let home = Home::new();
        let up = Up::start(&home, DEMO);
        let address = up.address();
        assert_eq!(up.end(signal).code, 0);
        assert!(std::net::TcpStream::connect(address).is_err());
        assert_eq!(home.bulkhead(&["status"]).code, 69);
    }
}

#[test]
fn outside_of_dev_there_is_no_demo_no_issuer_and_no_token() {
    let home = Home::new();
    let variables = [("ENCRYPTION_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")];
    for environment in ["staging", "prod"] {
        let said: Said = up(&home, &["--env", environment]).envs(variables).output().unwrap().into();
        assert_eq!(said.code, 78, "{said:?}");
        assert!(said.stderr.contains("--documents"), "{said:?}");
        let said: Said = home.command(&["token"]).env("BULKHEAD_ENV", environment).output().unwrap().into();
        assert_eq!((said.code, said.stdout.as_str()), (78, ""), "{said:?}");
    }
    // Whoever holds a dev issuer's key could make tokens for every tenant.
    Up::start(&home, DEMO).end("-TERM");
    let dev = home.path(".local/share/bulkhead/dev");
    let documents = dev.join("documents");
    let line = ["--env", "prod", "--data-dir", dev.to_str().unwrap(), "--documents", documents.to_str().unwrap()];
    let said: Said = up(&home, &line).envs(variables).output().unwrap().into();
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("issuer.key.pem"), "{said:?}");
}

#[test]
fn outside_of_dev_it_serves_the_users_documents_and_nothing_of_the_demo() {
    let home = Home::new();
    for name in ["platform.yaml", "tenants/acme_corp.yaml", "tenants/globex.yaml"] {
        home.write(&format!("mine/{name}"), std::fs::read(samples().join(name)).unwrap());
    }
    let mut line = up(&home, &["--env", "prod", "--documents", "mine"]);
    line.env("ENCRYPTION_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let up = Up::by(&home, line);
    assert!(up.told["demo"].is_null() && up.told["try"].as_array().unwrap().is_empty(), "{}", up.told);
    assert!(!home.path("mine/issuer.jwks.json").exists());
    assert_eq!(home.bulkhead(&["status", "--context", "prod"]).code, 0);
    assert_eq!(home.bulkhead(&["token", "--context", "prod"]).code, 69);
}

#[test]
fn mistakes_in_the_settings_are_shown_with_their_place() {
    let home = Home::new();
    home.write("core.yaml", "core:\n  cache:\n    default_tll: 60\n");
    let said: Said = up(&home, &["--settings", "core.yaml"]).output().unwrap().into();
    assert_eq!(said.code, 78, "{said:?}");
    assert!(said.stderr.contains("core.yaml:3:5") && said.stderr.contains("default_ttl"), "{said:?}");
}

#[test]
fn a_new_key_is_printed_once_and_works_at_once() {
    let home = Home::new();
    let up = Up::start(&home, DEMO);
    let line = ["api-key", "new", "--tenant", "acme_corp", "--id", "laptop", "--role", "reader", "--write"];
    let said = home.bulkhead(&line);
    assert_eq!(said.code, 0, "{said:?}");
    let key = said.stdout.trim_end();
    assert!(key.starts_with("bk1.acme_corp.laptop.") && key.len() == "bk1.acme_corp.laptop.".len() + 43, "{key}");
    assert!(said.stderr.contains("it is live"), "{said:?}");
    assert_eq!(up.get("acme.localhost", "/v1/items", &[("x-api-key", key)]).status, 200);
    assert_eq!(up.get("globex.localhost", "/v1/items", &[("x-api-key", key)]).status, 403);

    let again = home.bulkhead(&line);
    assert_eq!((again.code, again.stdout.as_str()), (78, ""), "{again:?}");
    assert!(again.stderr.contains("already has a key `laptop`"), "{again:?}");
    let unknown = home.bulkhead(&["api-key", "new", "--tenant", "acme_crop", "--id", "x", "--write"]);
    assert!(unknown.stderr.contains("did you mean `acme_corp`?"), "{unknown:?}");

    // Where no header carries keys, the new one opens nothing.
    let platform = home.path(".local/share/bulkhead/dev/documents/platform.yaml");
    let text = std::fs::read_to_string(&platform).unwrap();
    std::fs::write(&platform, text.replace("api_key_header: x-api-key", "")).unwrap();
    let said = home.bulkhead(&["api-key", "new", "--tenant", "acme_corp", "--id", "deaf", "--write"]);
    assert!(said.code == 0 && said.stderr.contains("api_key_header"), "{said:?}");
}

#[test]
fn a_refusal_is_explained_by_the_decision_id_it_names() {
    let home = Home::new();
    let up = Up::start(&home, DEMO);
    let bearer = up.bearer("acme_corp", "reader");
    let refused = up.get("acme.localhost", "/v1/admin/users", &[("authorization", &bearer)]);
    assert_eq!(refused.status, 403);
    let problem = refused.json();
    let said = home.bulkhead(&["explain", problem["decision_id"].as_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("403 not_permitted") && said.stdout.contains("demo-user"), "{}", said.stdout);
    let described = home.bulkhead(&["explain", "/v1/admin/users", "--tenant", "acme_corp", "--role", "reader"]);
    assert!(described.stdout.starts_with("GET /v1/admin/users  403 not_permitted"), "{described:?}");
}

#[test]
fn a_tenant_with_a_mistake_is_held_alone_and_status_says_so() {
    let home = Home::new();
    let up = Up::start(&home, DEMO);
    let globex = home.path(".local/share/bulkhead/dev/documents/tenants/globex.yaml");
    let text = std::fs::read_to_string(&globex).unwrap();
    std::fs::write(&globex, text.replace("plan: free", "plan: fre")).unwrap();
    eventually("status names the tenant", || home.bulkhead(&["status"]).stdout.contains("tenant globex: its last good version is served"));
    let status = home.bulkhead(&["status"]).stdout;
    assert!(status.contains("did you mean `free`?") && status.contains("plan: fre"), "{status}");
    for host in ["globex.localhost", "acme.localhost"] {
        assert_eq!(up.get(host, "/healthz", &[]).status, 200, "{host}");
    }
    std::fs::write(&globex, text).unwrap();
    eventually("the tenant leaves quarantine", || !home.bulkhead(&["status"]).stdout.contains("globex"));
}

#[test]
fn config_shows_what_is_in_effect_and_which_layer_gave_it() {
    let home = Home::new();
    let _up = Up::start(&home, &["--demo-address", "127.0.0.1:0", "--set", "core.cache.default_ttl=60"]);
    let settings = home.bulkhead(&["config", "show", "--origin"]).stdout;
    let line = settings.lines().find(|line| line.starts_with("core.cache.default_ttl")).unwrap();
    assert!(line.contains("60") && line.ends_with("flag"), "{line}");
    let tenant = home.bulkhead(&["config", "show", "--tenant", "acme_corp", "--origin"]).stdout;
    let line = tenant.lines().find(|line| line.starts_with("api_quota_per_hour")).unwrap();
    assert!(line.contains("50000") && line.ends_with("tenant"), "{line}");
    let unknown = home.bulkhead(&["config", "show", "--tenant", "acme_crop"]);
    assert_eq!(unknown.code, 65);
    assert!(unknown.stderr.contains("did you mean `acme_corp`?"), "{unknown:?}");
}

#[test]
fn probes_answer_where_it_says() {
    let home = Home::new();
    let up = Up::start(&home, DEMO);
    let probes: SocketAddr = up.told["probes"].as_str().unwrap().parse().unwrap();
    for path in ["/livez", "/startupz", "/readyz", "/metrics"] {
        assert_eq!(ask(probes, "GET", "localhost", path, &[]).status, 200, "{path}");
    }
    let written = std::fs::read(home.path(".local/share/bulkhead/dev/addresses.json")).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["probes"], up.told["probes"]);
    for member in ["service", "name", "address"] {
        assert_eq!(written["listeners"][0][member], up.told["listeners"][0][member], "{member}");
    }
    assert_eq!(up.told["listeners"][0]["scheme"], "http");
}

/// `bulkhead up | head -1`: whoever stops reading stops no sidecar.
#[test]
fn it_serves_on_when_nobody_reads_what_it_says() {
    let home = Home::new();
    let mut line = up(&home, DEMO);
    let mut unread = Process(line.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    drop(unread.0.stdout.take());
    eventually("it serves", || home.bulkhead(&["status"]).stdout.starts_with("ready"));
    assert_eq!(unread.end("-TERM").code, 0);
}
