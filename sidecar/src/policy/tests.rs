//! Lives and deaths of processes over one data directory, told as scripts: what is served after what happened.

use super::folder::Folder;
use super::key_files::KeyFiles;
use super::last_good::{LastGood, PROBATION};
use super::receive::Receiver;
use super::{Live, Policy, Status, Surroundings, begin};
use crate::clock::{Now, Origin};
use crate::telemetry::log::{Level, Log};
use crate::telemetry::metrics::{Counted, Metrics};
use crate::telemetry::spool::Sink;
use bulkhead_config::compile::Mode;
use bulkhead_config::name::TenantId;
use bulkhead_config::protocol::{Offer, Part};
use bulkhead_config::snapshot::SliceState;
use proptest::prelude::*;
use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tempfile::TempDir;

/// A folder of documents, a data directory, and at most one process that serves from them.
struct World {
    documents: TempDir,
    data: TempDir,
    process: Option<Receiver>,
    live: Arc<Live>,
    now: Now,
}

impl World {
    fn new() -> Self {
        let now = Now { mono_ns: 0, unix_ms: 1_790_000_000_000 };
        let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self { documents, data, process: None, live: Arc::new(Live::from_pointee(Policy::empty())), now }
    }

    fn play(script: &str) -> Self {
        let mut world = World::new();
        for step in script.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            world.step(step, script);
        }
        world
    }

    fn step(&mut self, step: &str, script: &str) {
        let words: Vec<&str> = step.split_whitespace().collect();
        match words.as_slice() {
            ["start"] => self.start(),
            ["kill"] => std::mem::forget(self.process.take().expect("a process")),
            ["stop"] => drop(self.process.take().expect("a process")),
            ["wait", seconds] => self.wait(Duration::from_secs(seconds.parse().unwrap())),
            ["edit", tenant, version] => self.write(tenant, &document(tenant, version)),
            ["comment", tenant, version] => self.write(tenant, &format!("# a remark\n{}", document(tenant, version))),
            ["mistake", tenant] => self.write(tenant, &format!("{}colour: blue\n", document(tenant, "x"))),
            ["empty", tenant] => self.write(tenant, ""),
            ["half", tenant] => self.write(tenant, "kind: Tenant\ntenant_id: \"a"),
            ["delete", tenant] => {
                fs::remove_file(self.documents.path().join(format!("{tenant}.yaml"))).unwrap();
                self.take();
            }
            ["move", tenant, folder] => {
                let (from, folder) = (self.documents.path().join(format!("{tenant}.yaml")), self.documents.path().join(folder));
                fs::create_dir(&folder).unwrap();
                fs::rename(from, folder.join("moved.yaml")).unwrap();
                self.take();
            }
            ["hide", folder] => {
                let folder = self.documents.path().join(folder);
                fs::rename(&folder, folder.with_file_name(".gone")).unwrap();
                std::os::unix::fs::symlink("nowhere", folder).unwrap();
            }
            ["serves", tenant, version] => assert_eq!(self.served(tenant), *version, "`{step}` in `{script}`"),
            ["trial", part, phase] => assert_eq!(self.phase(part), *phase, "`{step}` in `{script}`"),
            ["revision", revision] => {
                assert_eq!(self.live.load().snapshot.epoch().revision.to_string(), *revision, "`{step}` in `{script}`");
            }
            _ => panic!("no such step: {step}"),
        }
    }

    fn start(&mut self) {
        assert!(self.process.is_none());
        self.live = Arc::new(Live::from_pointee(Policy::empty()));
        let (last_good, _) = LastGood::open(self.data.path(), PROBATION, self.now);
        self.process = Some(Receiver::new(
            Arc::clone(&self.live),
            Mode::AsDeclared,
            last_good,
            Arc::new(|name| fs::read(name).ok().map(Into::into)),
            KeyFiles::default(),
        ));
        self.take();
    }

    fn write(&mut self, tenant: &str, text: &str) {
        fs::write(self.documents.path().join(format!("{tenant}.yaml")), text).unwrap();
        self.take();
    }

    fn take(&mut self) {
        if let Some(process) = &mut self.process {
            process.take(Folder::read_once(self.documents.path()), self.now);
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono_ns += u64::try_from(time.as_nanos()).unwrap();
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap();
        self.process.as_mut().unwrap().tick(self.now);
    }

    /// The feature that tells a tenant's versions apart, `held`, or `unknown`.
    fn served(&self, tenant: &str) -> String {
        let policy = self.live.load();
        match policy.snapshot.tenant(tenant) {
            None => "unknown".to_owned(),
            Some(slice) if slice.state() == SliceState::Held => "held".to_owned(),
            Some(slice) => slice.features()[0].to_string(),
        }
    }

    fn phase(&self, part: &str) -> String {
        let part = if part == "platform" { Part::Platform } else { Part::Tenant(part.parse::<TenantId>().unwrap()) };
        let last_good = self.process.as_ref().unwrap().last_good();
        let phase = last_good.ledger.trials().find(|(known, _, _)| **known == part).map(|(_, _, phase)| phase);
        phase.map_or("none".to_owned(), |phase| phase.to_string())
    }

    fn quarantined(&self) -> Vec<String> {
        self.live.load().quarantined.iter().map(|quarantined| quarantined.part.to_string()).collect()
    }
}

/// A tenant, its version as a feature; the platform, its version as the feature of a plan.
fn document(tenant: &str, version: &str) -> String {
    match tenant {
        "plan" => format!("kind: Plan\nname: basic\ndefault: true\nfeatures: [{version}]\n"),
        _ => format!("kind: Tenant\ntenant_id: {tenant}\nname: {tenant}\nemail: ops@{tenant}.example\nfeatures: [{version}]\n"),
    }
}

#[test]
fn what_is_declared_no_more_is_reported_as_gone() {
    let mut world = World::play("edit plan p1; edit a a1; edit b b1; start");
    fs::remove_file(world.documents.path().join("a.yaml")).unwrap();
    fs::write(world.documents.path().join("b.yaml"), document("b", "b2")).unwrap();
    let report = world.process.as_mut().unwrap().take(Folder::read_once(world.documents.path()), world.now).report;
    let parts = |parts: &[Part]| parts.iter().map(Part::to_string).collect::<Vec<_>>();
    assert_eq!((parts(&report.accepted), parts(&report.gone)), (vec!["tenant b".to_owned()], vec!["tenant a".to_owned()]));
}

#[test]
fn trust_is_earned_part_by_part() {
    for script in [
        // One stray kill hides no edit.
        "edit a v1; start; edit a v2; kill; start; serves a v2; trial a suspect",
        "edit a v1; start; edit a v2; kill; start; wait 60; trial a none; kill; start; serves a v2",
        // A second death soon after it: what was replaced is served, and tried again after a minute.
        "edit a v1; start; edit a v2; kill; start; kill; start; serves a v1; trial a withheld",
        "edit a v1; start; edit a v2; kill; start; kill; start; wait 59; serves a v1; wait 1; serves a v2; trial a retried",
        "edit a v1; start; edit a v2; kill; start; kill; start; wait 60; wait 60; trial a none; kill; start; kill; start; serves a v2",
        // Another death holds it until its document changes.
        "edit a v1; start; edit a v2; kill; start; kill; start; wait 60; kill; start; serves a v1; trial a condemned; wait 600; serves a v1",
        "edit a v1; start; edit a v2; kill; start; kill; start; wait 60; kill; start; edit a v3; serves a v3; trial a probation",
        "edit a v1; start; edit a v2; kill; start; kill; start; wait 60; kill; edit a v3; start; serves a v3; trial a probation",
        "edit a v1; start; edit a v2; kill; start; kill; start; edit a v1; serves a v1; trial a none",
        // A tenant that is new has nothing to fall back on.
        "edit a v1; start; edit b v1; kill; start; serves b v1; kill; start; serves b held; serves a v1; wait 60; serves b v1",
        "edit a v1; start; edit b v1; kill; start; kill; start; delete b; serves b unknown; trial b none",
        // Of several edits within a minute, what they replaced together.
        "edit a v1; start; edit a v2; edit a v3; kill; start; serves a v3; kill; start; serves a v1",
        "edit a v1; start; edit a v2; wait 60; edit a v3; kill; start; kill; start; serves a v2",
        // What was served for a minute is not blamed, however often the process dies.
        "edit a v1; start; edit a v2; wait 60; kill; start; kill; start; kill; start; serves a v2; trial a none",
        // An end in order blames nobody.
        "edit a v1; start; edit a v2; stop; start; stop; start; serves a v2; trial a probation",
        "edit a v1; start; edit a v2; kill; start; stop; start; serves a v2; trial a suspect",
        // Neither does a death before anything was changed: the first start has nothing to fall back on.
        "edit a v1; start; kill; start; kill; start; kill; start; serves a v1; trial a none",
        // Edits made while nothing ran are edits.
        "edit a v1; start; stop; edit a v2; start; serves a v2; kill; start; serves a v2; kill; start; serves a v1",
        // A part that is gone stays gone.
        "edit a v1; edit b v1; start; delete b; kill; start; kill; start; serves b unknown; serves a v1",
        // A remark changes nothing that could crash anybody.
        "edit a v1; start; comment a v1; trial a none; kill; start; kill; start; serves a v1; trial a none",
        "edit a v1; start; edit a v2; comment a v2; trial a probation; kill; start; kill; start; serves a v1",
        // The platform is a part like others, and the tenants on it stay as they are.
        "edit plan v1; edit a w; start; edit plan v2; kill; start; trial platform suspect; kill; start; trial platform withheld; serves a v1",
        "edit plan v1; edit a w; start; edit plan v2; kill; start; kill; start; wait 60; serves a v2; wait 60; trial platform none",
    ] {
        World::play(script);
    }
}

#[test]
fn a_bad_change_made_while_nothing_ran_is_as_harmless_as_one_made_while_it_did() {
    for script in [
        "edit a v1; start; mistake a; serves a v1",
        "edit a v1; start; stop; mistake a; start; serves a v1",
        "edit a v1; start; mistake a; stop; start; serves a v1; edit a v2; serves a v2",
        "edit a v1; start; stop; half a; start; serves a v1",
        "edit a v1; start; kill; empty a; start; serves a v1; delete a; serves a unknown",
        "edit a v1; start; move a elsewhere; stop; hide elsewhere; start; serves a v1",
        "edit a v1; start; kill; half a; start; serves a v1; edit a v1; serves a v1; trial a none",
        "mistake a; edit b v1; start; serves a held; serves b v1; edit a v1; serves a v1; trial a probation",
    ] {
        World::play(script);
    }
}

#[test]
fn revisions_go_on_over_restarts() {
    World::play(
        "edit a v1; start; revision 1; edit a v2; revision 2; stop; start; revision 3; edit a v3; revision 4; kill; start; revision 5",
    );
}

#[test]
fn of_many_suspects_the_one_that_kills_is_found_by_halves_and_the_others_are_served() {
    let mut world = World::play("edit a v1; start");
    let edited = ["b", "c", "d", "e", "f", "g", "h"];
    for tenant in edited {
        world.write(tenant, &document(tenant, "v1"));
    }
    world.step("kill", "");
    let mut deaths = 1;
    // `f` kills whoever serves it, at once; else time passes.
    for _ in 0..200 {
        if world.process.is_none() {
            world.start();
        }
        if world.served("f") == "v1" {
            world.step("kill", "");
            deaths += 1;
        } else {
            world.wait(Duration::from_secs(30));
        }
    }
    assert_eq!(world.phase("f"), "condemned");
    for tenant in edited.into_iter().filter(|tenant| *tenant != "f") {
        assert_eq!((world.served(tenant), world.phase(tenant)), ("v1".to_owned(), "none".to_owned()), "{tenant}");
    }
    assert_eq!(deaths, 2 + 4, "two to withhold them, and one for each half: of 7, 4, 2, 1");
}

#[test]
fn what_is_withheld_is_named_with_its_document() {
    let world = World::play("edit a v1; start; edit a v2; kill; start; kill; start");
    assert_eq!(world.quarantined(), ["tenant a"]);
    let policy = world.live.load();
    let mistake = policy.quarantined[0].diagnostics.to_string();
    assert!(mistake.contains("a.yaml:1:1") && mistake.contains("withheld"), "{mistake}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_becomes_of_the_journal_only_what_was_declared_is_served(at in any::<prop::sample::Index>(), flip in any::<Option<u8>>()) {
        let mut world = World::play("edit a v1; edit plan w; start; edit a v2; edit b v1; kill; start; kill");
        let journal = world.data.path().join("policy/journal");
        let mut bytes = fs::read(&journal).unwrap();
        let at = at.index(bytes.len());
        match flip {
            Some(flip) => bytes[at] ^= flip,
            None => bytes.truncate(at),
        }
        fs::write(&journal, &bytes).unwrap();
        world.start();
        prop_assert!(["v1", "v2", "held"].contains(&world.served("a").as_str()), "{}", world.served("a"));
        prop_assert!(["v1", "held"].contains(&world.served("b").as_str()), "{}", world.served("b"));
        world.step("edit a v3", "");
        prop_assert_eq!(world.served("a"), "v3");
    }
}

#[test]
fn a_lost_or_damaged_journal_leaves_what_is_declared() {
    for damage in ["lose", "empty", "garble"] {
        let mut world = World::play("edit a v1; start; edit a v2; kill; start; kill");
        let journal = world.data.path().join("policy/journal");
        match damage {
            "lose" => fs::remove_dir_all(world.data.path().join("policy")).unwrap(),
            "empty" => fs::write(&journal, "").unwrap(),
            _ => fs::write(&journal, "nonsense\nmore of it\n").unwrap(),
        }
        let (_, findings) = LastGood::open(world.data.path(), PROBATION, world.now);
        assert_eq!(findings.damage.len(), if damage == "garble" { 2 } else { 0 }, "{damage}");
        assert!(findings.is_lost == (damage != "lose"), "{damage}: {findings:?}");
        world.start();
        assert_eq!(world.served("a"), "v2", "{damage}");
    }
}

const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn identity(keys: &str) -> String {
    format!(
        "kind: Identity\nname: i\njwt:\n  - {{ issuer: https://i, audiences: [a], algorithms: [EdDSA], jwks: {{ file: {keys} }}, tenant_claim: t }}\n"
    )
}

impl World {
    fn keep(&self, name: &str, text: &str) {
        fs::write(self.documents.path().join(name), text).unwrap();
    }

    fn has_key(&self, id: &str) -> bool {
        format!("{:?}", self.live.load().keys).contains(&format!("\"{id}\""))
    }
}

#[test]
fn a_key_set_that_is_spoilt_or_gone_keeps_its_last_good_keys_and_is_named() {
    let mut world = World::new();
    world.keep("keys.jwks", KEYS);
    world.keep("i.yaml", &identity("keys.jwks"));
    world.start();
    assert!(world.has_key("one"));
    world.keep("keys.jwks", "{\"keys\": [");
    world.take();
    assert!(world.has_key("one"));
    assert_eq!(world.quarantined().len(), 1, "{:?}", world.quarantined());
    assert!(world.quarantined()[0].ends_with("keys.jwks"));
    world.keep("keys.jwks", &KEYS.replace("one", "two"));
    world.take();
    assert!(world.has_key("two") && !world.has_key("one") && world.quarantined().is_empty());
    fs::remove_file(world.documents.path().join("keys.jwks")).unwrap();
    world.take();
    assert!(world.has_key("two"));
    assert_eq!(world.quarantined().len(), 1);
}

#[test]
fn a_key_set_that_is_spoilt_and_then_gone_is_named_once() {
    let mut world = World::new();
    world.keep("keys.jwks", KEYS);
    world.keep("i.yaml", &identity("keys.jwks"));
    world.start();
    world.keep("keys.jwks", "{\"keys\": [");
    world.take();
    fs::remove_file(world.documents.path().join("keys.jwks")).unwrap();
    world.take();
    assert_eq!(world.quarantined().len(), 1, "{:?}", world.quarantined());
}

#[test]
fn a_version_that_is_taken_back_brings_its_key_set_along() {
    let mut world = World::new();
    world.keep("old.jwks", KEYS);
    world.keep("new.jwks", &KEYS.replace("one", "two"));
    world.keep("i.yaml", &identity("old.jwks"));
    world.start();
    world.keep("i.yaml", &identity("new.jwks"));
    world.take();
    for step in ["kill", "start", "kill", "start", "trial platform withheld"] {
        world.step(step, "");
    }
    assert!(world.has_key("one"));
    world.wait(PROBATION);
    world.wait(PROBATION);
    world.take();
    assert!(world.has_key("two") && !world.has_key("one"));
}

#[test]
fn a_key_set_alone_is_a_change_that_leaves_the_snapshot_as_it_is() {
    let mut world = World::new();
    world.keep("keys.jwks", KEYS);
    world.keep("i.yaml", &identity("keys.jwks"));
    world.start();
    let before = Arc::clone(&world.live.load().snapshot);
    let name = world.documents.path().join("keys.jwks").display().to_string();
    let files = vec![(name.into(), Some(KEYS.replace("one", "two").into_bytes().into()))];
    let now = world.now;
    world.process.as_mut().unwrap().take(Offer { files, ..Offer::default() }, now);
    assert!(world.has_key("two"));
    assert!(Arc::ptr_eq(&before, &world.live.load().snapshot));
}

/// What the log is told.
struct Paper(Sender<Vec<u8>>);

impl std::io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).unwrap();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_folder_is_followed_from_edit_to_log_metric_and_status() {
    let (documents, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // At once, so that who watches never sees half of it.
    let write = |tenant: &str, text: &str| {
        let draft = documents.path().join(".draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, documents.path().join(format!("{tenant}.yaml"))).unwrap();
    };
    write("a", &document("a", "v1"));
    let (paper, written) = channel();
    let log = Log::start(Sink::Other(Box::new(Paper(paper))), Level::Info).unwrap();
    let counted =
        Counted { workers: NonZeroUsize::MIN, refusals: [].into(), upstream_steps: [].into(), proxy_headers: [].into(), logs: Vec::new() };
    let surroundings = Surroundings {
        live: Arc::new(Live::from_pointee(Policy::empty())),
        status: Arc::new(Status::default()),
        log: log.clone(),
        metrics: Arc::new(Metrics::new(counted).unwrap()),
        origin: Origin::begin(),
        data_dir: data.path().to_owned(),
        probation: PROBATION,
        instead: None,
        mode: Mode::AsDeclared,
    };
    let Surroundings { live, status, metrics, .. } = surroundings.clone();
    let keeper =
        begin(surroundings, Folder::watch(documents.path()).unwrap(), (crate::identity::channel().1, crate::identity::token_channel().1))
            .await
            .unwrap();
    let version = || live.load().snapshot.tenant("a").unwrap().features()[0].to_string();
    assert_eq!(version(), "v1");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let following = tokio::spawn(keeper.follow(async { drop(stopped.await) }, tokio::sync::mpsc::channel(1).1));
    write("a", &document("a", "v2"));
    until(|| version() == "v2").await;
    write("a", &format!("{}colour: blue\n", document("a", "v3")));
    until(|| !live.load().quarantined.is_empty()).await;
    assert_eq!(version(), "v2");

    until(|| !status.to_json(0)["quarantined"].as_array().unwrap().is_empty()).await;
    let told = status.to_json(0);
    let mistake = &told["quarantined"][0]["mistakes"][0];
    assert_eq!((&told["quarantined"][0]["part"], &mistake["line"]), (&"tenant a".into(), &6.into()), "{told:#}");
    assert_eq!((&told["trials"][0]["phase"], &told["tenants"]), (&"probation".into(), &1.into()), "{told:#}");
    assert!(metrics.render().unwrap().contains("bulkhead_quarantined_parts{part=\"tenant a\"} 1"));
    assert!(data.path().join("policy/running").exists());

    stop.send(()).unwrap();
    following.await.unwrap().unwrap();
    assert!(!data.path().join("policy/running").exists(), "an end in order leaves no mark");
    assert!(log.flush(Duration::from_secs(10)).await);
    let lines = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
    for told in ["policy is live", "\"tenant_id\":\"a\",\"message\":\"not served as declared", "a.yaml:6:1"] {
        assert!(lines.contains(told), "{told}: {lines}");
    }
}

/// Waits for what must happen; the test runner's patience is the only limit.
async fn until(happened: impl Fn() -> bool) {
    while !happened() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
