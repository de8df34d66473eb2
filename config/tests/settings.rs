//! Settings: layers, references, what is refused, and what nobody gets to see.

#![expect(clippy::unwrap_used, reason = "tests: what cannot be unwrapped has failed")]

use bulkhead_config::diagnostic::Diagnostics;
use bulkhead_config::settings::{self, Environment, Level, Settings, Sources, Workers};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// 32 bytes of `k`.
const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

/// What a process is started with.
#[derive(Default)]
struct World {
    file: String,
    variables: Vec<(&'static str, &'static str)>,
    flags: Vec<&'static str>,
}

impl World {
    fn file(text: &str) -> Self {
        Self { file: text.to_owned(), ..Self::default() }
    }

    fn load(&self, environment: Environment) -> Result<Settings, Diagnostics> {
        let variables: BTreeMap<String, String> =
            self.variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let flags: Vec<String> = self.flags.iter().map(|flag| (*flag).to_owned()).collect();
        let file = Some(("mine.yaml", self.file.as_str())).filter(|(_, text)| !text.is_empty());
        settings::load(&Sources { environment, file, variables: &variables, flags: &flags })
    }

    fn mistakes(&self, environment: Environment) -> Vec<String> {
        self.load(environment).err().map(|mistakes| mistakes.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }
}

#[test]
fn dev_starts_with_nothing_set() {
    let settings = World::default().load(Environment::Dev).unwrap();
    assert!(settings.encryption_key().is_none() && settings.slack_webhook_url().is_none());
    assert!(settings.audit_enabled() && settings.prometheus_enabled());
    assert_eq!(settings.redis_url().map(|url| url.expose().as_str()), Some("redis://localhost:6379"));
    assert_eq!(settings.default_ttl(), Duration::from_secs(3_600));
    assert_eq!(settings.collection_interval(), Duration::from_secs(30));
    assert_eq!(settings.smtp(), Some(("smtp.example.com", 587)));
    assert_eq!((settings.log_level(), settings.workers()), (Level::Info, Workers::Auto));
    assert_eq!((settings.drain_deadline(), settings.probation()), (Duration::from_secs(30), Duration::from_secs(60)));
    assert!(!settings.shadow());
}

#[test]
fn staging_and_prod_refuse_to_run_without_a_key_or_without_audit() {
    for environment in [Environment::Staging, Environment::Prod] {
        let world = World { flags: vec!["core.security.audit_enabled=false"], ..World::default() };
        let mistakes = world.mistakes(environment).join("\n");
        assert!(mistakes.contains("set ENCRYPTION_KEY") && mistakes.contains("without the audit"), "{mistakes}");
        let settings = World { variables: vec![("ENCRYPTION_KEY", KEY)], ..World::default() }.load(environment).unwrap();
        assert_eq!(settings.encryption_key().map(|key| *key.expose()), Some([b'k'; 32]));
    }
    let world = World { flags: vec!["core.security.audit_enabled=false"], ..World::default() };
    assert!(!world.load(Environment::Dev).unwrap().audit_enabled());
}

#[test]
fn the_last_layer_that_speaks_decides_and_is_named() {
    let file = "core:\n  cache:\n    default_ttl: 1\n  metrics:\n    collection_interval: 1\n  logging: { level: warn }\n";
    let world = World {
        file: file.to_owned(),
        variables: vec![("BULKHEAD__CORE__METRICS__COLLECTION_INTERVAL", "2"), ("BULKHEAD__CORE__LOGGING__LEVEL", "debug")],
        flags: vec!["core.logging.level=error"],
    };
    let settings = world.load(Environment::Dev).unwrap();
    let origin =
        |key: &str| settings.entries().iter().find(|entry| entry.key == key).map(|one| (one.shown.clone(), one.origin.to_string()));
    let meant = |shown: &str, origin: &str| Some((shown.to_owned(), origin.to_owned()));
    assert_eq!(origin("core.metrics.prometheus_enabled"), meant("true", "config/environments/dev/core.yaml:10"));
    assert_eq!(origin("core.sidecar.workers"), meant("auto", "config/environments/base.yaml:6"));
    assert_eq!(origin("core.cache.default_ttl"), meant("1", "mine.yaml:3"));
    let variable = "variable BULKHEAD__CORE__METRICS__COLLECTION_INTERVAL";
    assert_eq!(origin("core.metrics.collection_interval"), meant("2", variable));
    assert_eq!(origin("core.logging.level"), meant("error", "flag"));
    assert_eq!(origin("core.security.encryption_key"), meant("unset", "unset"));
    assert!(settings.entries().is_sorted_by_key(|entry| entry.key));
}

#[test]
fn programs_read_settings_as_the_values_they_are() {
    let world = World { flags: vec!["core.sidecar.workers=2", "core.alerts.channels.email.smtp_host=1e3"], ..World::default() };
    let settings = world.load(Environment::Dev).unwrap();
    for (key, value) in [
        ("core.cache.default_ttl", json!(3600)),
        ("core.security.audit_enabled", json!(true)),
        ("core.sidecar.workers", json!(2)),
        ("core.sidecar.drain_deadline", json!("30s")),
        ("core.sidecar.shadow", json!(false)),
        ("core.alerts.channels.email.smtp_host", json!("1e3")),
        ("core.cache.redis_url", json!("[redacted]")),
        ("core.security.encryption_key", json!(null)),
    ] {
        let entry = settings.entries().iter().find(|entry| entry.key == key).unwrap();
        assert_eq!(entry.to_json(), value, "{key}");
    }
}

#[test]
fn a_reference_takes_a_variable_or_its_default() {
    let world = World {
        file:
            "core:\n  cache: { redis_url: '${A:-redis://a:1}', default_ttl: '${TTL}' }\n  metrics: { prometheus_enabled: '${M:-false}' }\n"
                .to_owned(),
        variables: vec![("TTL", "5")],
        ..World::default()
    };
    let settings = world.load(Environment::Dev).unwrap();
    assert_eq!(settings.redis_url().unwrap().expose(), "redis://a:1");
    assert_eq!((settings.default_ttl(), settings.prometheus_enabled()), (Duration::from_secs(5), false));
    // A layer above answers for the reference below it.
    let world = World { variables: vec![], flags: vec!["core.cache.default_ttl=7"], ..world };
    assert_eq!(world.load(Environment::Dev).unwrap().default_ttl(), Duration::from_secs(7));
}

#[test]
fn null_takes_back_what_a_lower_layer_says() {
    let settings = World::file("core:\n  cache:\n    redis_url: null\n").load(Environment::Dev).unwrap();
    assert!(settings.redis_url().is_none());
    let mistakes = World::file("core:\n  cache:\n    default_ttl: null\n").mistakes(Environment::Dev);
    assert!(mistakes.iter().any(|one| one.starts_with("mine.yaml:3:") && one.contains("has no value")), "{mistakes:?}");
}

#[test]
fn every_mistake_is_told_with_its_place_and_its_remedy() {
    for (text, says) in [
        ("cor: {}\n", "mine.yaml:1:1: there is no setting `cor`; did you mean `core`?"),
        ("core:\n  cache:\n    redis_urll: x\n", "mine.yaml:3:5: there is no setting `core.cache.redis_urll`; did you mean `redis_url`?"),
        ("core:\n  colour: x\n", "settings here: alerts, cache, logging, metrics, security, sidecar"),
        ("core: 5\n", "mine.yaml:1:7: `core` is no mapping"),
        ("- core\n", "mine.yaml:1:1: settings are no mapping"),
        ("core: {}\n---\ncore: {}\n", "mine.yaml:3:1: settings are one document"),
        ("core:\n  cache: [\n", "close the bracket"),
        ("core:\n  cache: { default_ttl: 1, default_ttl: 2 }\n", "stands twice"),
        ("core:\n  cache: { default_ttl: 1h }\n", "mine.yaml:2:25: `1h` is no number of seconds"),
        ("core:\n  cache: { default_ttl: '60' }\n", "remove the quotes"),
        ("core:\n  cache: { default_ttl: -1 }\n", "whole seconds from 0 to"),
        ("core:\n  cache: { default_ttl: 1.5 }\n", "whole seconds from 0 to"),
        ("core:\n  cache: { default_ttl: [1] }\n", "no single value"),
        ("core:\n  cache: { default_ttl: '${A}' }\n", "variable `A` is not set (found `${A}`); set it, or write `${A:-default}`"),
        ("core:\n  cache: { default_ttl: '${A:-1h}' }\n", "write `3600`"),
        ("core:\n  cache: { redis_url: '${A' }\n", "`$$` for a dollar sign"),
        ("core:\n  cache: { redis_url: 'http://a' }\n", "`redis://host:port`"),
        ("core:\n  metrics: { prometheus_enabled: 1 }\n", "`true` or `false`"),
        ("core:\n  metrics: { collection_interval: 0 }\n", "whole seconds from 1 to"),
        ("core:\n  alerts: { channels: { email: { smtp_port: 0 } } }\n", "from 1 to 65535"),
        ("core:\n  alerts: { channels: { email: { smtp_host: 'a:25' } } }\n", "without port"),
        ("core:\n  alerts: { channels: { slack: { webhook_url: hooks } } }\n", "https://hooks.slack.com"),
        ("core:\n  security: { encryption_key: c2hvcnQ= }\n", "32 bytes in base64"),
        ("core:\n  logging: { level: INFO }\n", "did you mean `info`?"),
        ("core:\n  sidecar: { workers: 0 }\n", "`auto`, or a whole number from 1 to 64"),
        ("core:\n  sidecar: { drain_deadline: 30 }\n", "write for example `30s`"),
        ("core:\n  sidecar: { probation: 0s }\n", "longer than zero"),
    ] {
        let mistakes = World::file(text).mistakes(Environment::Dev);
        assert!(mistakes.len() == 1 && mistakes.iter().all(|one| one.contains(says)), "{text}{mistakes:#?}");
    }
}

#[test]
fn variables_and_flags_are_checked_like_files() {
    let world = World {
        file: "core:\n  cahce: {}\n".to_owned(),
        variables: vec![
            ("BULKHEAD__CORE__CACHE__REDIS_URLS", "x"),
            ("BULKHEAD__CORE__SIDECAR__WORKERS", "many"),
            ("BULKHEAD_ENV", "prod"),
            ("PATH", "/bin"),
        ],
        flags: vec!["core.logging.levle=info", "nothing", "core.cache.default_ttl=x"],
    };
    let mistakes = world.mistakes(Environment::Dev).join("\n");
    for says in [
        "did you mean `cache`?",
        "did you mean `BULKHEAD__CORE__CACHE__REDIS_URL`?",
        "BULKHEAD__CORE__SIDECAR__WORKERS: `many`",
        "did you mean `core.logging.level`?",
        "`nothing` sets nothing",
        "--set: `x` is no number of seconds",
    ] {
        assert!(mistakes.contains(says), "{says} in\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 6, "{mistakes}");
    // What a variable holds is taken as it stands.
    let world = World { variables: vec![("BULKHEAD__CORE__CACHE__REDIS_URL", "redis://:pa$$w${0}rd@a")], ..World::default() };
    assert_eq!(world.load(Environment::Dev).unwrap().redis_url().unwrap().expose(), "redis://:pa$$w${0}rd@a");
}

#[test]
fn a_secret_is_shown_nowhere() {
    let secrets = ["hunter2", "T0KEN", KEY, "a2tr"];
    let world = World {
        variables: vec![
            ("BULKHEAD__CORE__CACHE__REDIS_URL", "redis://:hunter2@a:1"),
            ("SLACK_WEBHOOK", "https://hooks.slack.com/services/T0KEN"),
            ("ENCRYPTION_KEY", KEY),
        ],
        ..World::default()
    };
    let settings = world.load(Environment::Prod).unwrap();
    let shown = format!("{settings:?} {:?} {}", settings.entries(), settings.redis_url().unwrap());
    let world = World {
        variables: vec![
            ("BULKHEAD__CORE__CACHE__REDIS_URL", "hunter2"),
            ("SLACK_WEBHOOK", "T0KEN"),
            ("ENCRYPTION_KEY", "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2trhunter2"),
        ],
        ..World::default()
    };
    let refused = world.mistakes(Environment::Prod);
    assert_eq!(refused.len(), 3, "{refused:?}");
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(refused.iter().all(|one| !one.contains(secret)), "{secret} in {refused:?}");
    }
}

#[test]
fn what_takes_effect_only_with_the_next_start_is_named() {
    let before = World::default().load(Environment::Dev).unwrap();
    let same = World::default().load(Environment::Dev).unwrap();
    assert!(before.needs_restart(&same).is_empty());
    let world =
        World { flags: vec!["core.sidecar.workers=2", "core.logging.level=debug", "core.cache.redis_url=redis://b"], ..World::default() };
    assert_eq!(before.needs_restart(&world.load(Environment::Dev).unwrap()), ["core.cache.redis_url", "core.sidecar.workers"]);
}

#[test]
fn a_file_is_checked_on_its_own_without_variables() {
    for environment in Environment::ALL {
        let path = format!("{}/environments/{environment}/core.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(settings::is_settings("core.yaml", &text));
        assert!(settings::check("core.yaml", &text).is_empty(), "{}", settings::check("core.yaml", &text));
    }
    let bad = "core:\n  cache: { default_ttl: 1h, redis_url: '${X' }\n  metrics: { x: 1 }\n";
    assert_eq!(settings::check("core.yaml", bad).len(), 3);
    assert!(!settings::is_settings("plan.yaml", "kind: Plan\nname: p\n"));
}
