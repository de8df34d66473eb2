//! What a newcomer can try: lines to paste, each of which shows one behaviour of the demo.

use crate::shell;
use std::env;
use std::path::Path;

/// One line to paste.
pub(super) struct Try {
    /// The status it ends with, where it is a request.
    pub(super) status: Option<u16>,
    /// What it shows.
    pub(super) shows: &'static str,
    /// The line.
    pub(super) line: String,
}

/// How the lines reach this bulkhead.
pub(super) struct Reach<'a> {
    /// The program, as a shell finds it.
    pub(super) program: &'a str,
    /// The data directory, where no context leads to it.
    pub(super) data_dir: Option<&'a Path>,
    /// Port of the demo's listener.
    pub(super) port: u16,
}

/// This program as a shell finds it: by its name where that leads here, else by its whole path.
pub(super) fn program() -> String {
    let here = env::current_exe().ok();
    let on_path =
        env::var_os("PATH").and_then(|path| env::split_paths(&path).map(|folder| folder.join("bulkhead")).find(|file| file.is_file()));
    match (here, on_path.and_then(|file| file.canonicalize().ok())) {
        (Some(here), Some(found)) if here == found => "bulkhead".to_owned(),
        (Some(here), _) => here.to_string_lossy().into_owned(),
        (None, _) => "bulkhead".to_owned(),
    }
}

/// The lines for the demo's documents.
pub(super) fn of_the_demo(reach: &Reach<'_>) -> Vec<Try> {
    let bulkhead = reach.bulkhead();
    let (acme, globex, nobody) = (reach.url("acme"), reach.url("globex"), reach.url("nobody"));
    let token = |tenant: &str, role: &str| format!(r#"-H "Authorization: Bearer $({bulkhead} token --tenant {tenant} --role {role})""#);
    let reader = token("acme_corp", "reader");
    let stranger = token("globex", "reader");
    let key = format!("{bulkhead} api-key new --tenant acme_corp --id try-$(date +%s) --role editor --write");
    let id = r#"sed -n 's/.*"decision_id": *"\([^"]*\)".*/\1/p'"#;
    let tries = [
        (Some(200), "anybody may ask a public route", format!("curl -i {acme}/healthz")),
        (Some(200), "a reader of acme_corp reads its items", format!("curl -i {acme}/v1/items {reader}")),
        (Some(401), "nobody says who they are (missing_credential)", format!("curl -i {acme}/v1/items")),
        (Some(403), "a reader is no admin (not_permitted)", format!("curl -i {acme}/v1/admin/users {reader}")),
        (Some(403), "a token of globex proves nothing at acme_corp (other_tenant)", format!("curl -i {acme}/v1/items {stranger}")),
        (Some(404), "no route has this path (no_route)", format!("curl -i {acme}/v1/elsewhere {reader}")),
        (Some(404), "no tenant has this host (unknown_tenant)", format!("curl -i {nobody}/v1/items {reader}")),
        (
            Some(429),
            "the sixth report within a minute is one too many for globex (quota_exceeded)",
            format!(
                "for i in 1 2 3 4 5 6; do curl -s -o /dev/null -D - {globex}/v1/reports {stranger} | grep -iE '^(HTTP|RateLimit|Retry-After)'; done"
            ),
        ),
        (
            Some(201),
            "a machine writes with an API key that is made here and now",
            format!(r#"curl -i -X POST {acme}/v1/items -H "x-api-key: $({key})""#),
        ),
        (
            None,
            "why is this refused, and what comes nearest?",
            format!("{bulkhead} explain GET /v1/admin/users --tenant acme_corp --role reader"),
        ),
        (
            None,
            "why was that refused? by the decision id that each refusal names",
            format!(r#"{bulkhead} explain "$(curl -s {acme}/v1/items | {id})""#),
        ),
    ];
    tries.into_iter().map(|(status, shows, line)| Try { status, shows, line }).collect()
}

impl Reach<'_> {
    fn bulkhead(&self) -> String {
        let program = shell::word(self.program);
        match self.data_dir {
            Some(dir) => format!("{program} --data-dir {}", shell::word(&dir.to_string_lossy())),
            None => program.into_owned(),
        }
    }

    /// Names below `localhost` are the machine itself to curl and browsers, whatever its resolver says.
    fn url(&self, host: &str) -> String {
        format!("http://{host}.localhost:{}", self.port)
    }
}
