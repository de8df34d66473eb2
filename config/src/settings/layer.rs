//! The layers: what each of them says of which key. The last that speaks decides.

use super::key::{KEYS, Known};
use super::{Environment, Origin};
use crate::declared::reader::{Complaint, wrong};
use crate::diagnostic::{Diagnostics, Span, nearest};
use crate::text::{self, Budget, Key, Node, Value, below, show_text};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Variables that begin so are settings; two underscores stand for a dot.
const PREFIX: &str = "BULKHEAD__";

/// Where flags are said to stand.
const FLAG: &str = "--set";

/// The layers that are built in, lowest first: name and text.
pub(super) fn built_in(environment: Environment) -> [(&'static str, &'static str); 2] {
    macro_rules! file {
        ($name:literal) => {
            (concat!("config/environments/", $name), include_str!(concat!("../../environments/", $name)))
        };
    }
    let environment = match environment {
        Environment::Dev => file!("dev/core.yaml"),
        Environment::Staging => file!("staging/core.yaml"),
        Environment::Prod => file!("prod/core.yaml"),
    };
    [file!("base.yaml"), environment]
}

/// What the layers say so far.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) written: BTreeMap<&'static str, Written>,
    /// What is wrong with keys, not with their values.
    pub(super) mistakes: Diagnostics,
}

/// What one layer says of a key.
pub(super) struct Written {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

impl Layers {
    /// Adds a file.
    pub(super) fn file(&mut self, name: &str, text: &str) {
        let name: Arc<str> = name.into();
        let read = text::read(&name, text, Budget::FILE);
        let mistakes = read.trees.iter().flat_map(|tree| tree.mistakes.iter().cloned()).chain(read.cut);
        mistakes.for_each(|mistake| self.mistakes.push(mistake.in_file(&name, None)));
        let mut roots = read.trees.iter().filter_map(|tree| tree.root.as_ref());
        if let Some(root) = roots.next() {
            self.node(&name, "", "", root);
        }
        if let Some(second) = roots.next() {
            let complaint = wrong("settings are one document").hint("remove everything from `---` on");
            complaint.report(&mut self.mistakes, &name, second.span, "".into(), None);
        }
    }

    /// Adds what stands at `path` of a file.
    fn node(&mut self, file: &Arc<str>, path: &str, pointer: &str, node: &Node) {
        let Value::Map(entries) = &node.value else {
            let message = if path.is_empty() { "settings are no mapping".to_owned() } else { format!("`{path}` is no mapping") };
            let complaint = wrong(message).expected("a mapping").hint(format!("settings here: {}", inside(path).join(", ")));
            complaint.report(&mut self.mistakes, file, node.span, pointer.into(), Some(text::show(&node.value)));
            return;
        };
        for (Key { text: step, span }, node) in entries {
            let longer = if path.is_empty() { step.to_string() } else { format!("{path}.{step}") };
            let pointer = below(pointer, step);
            if let Some(key) = known(&longer) {
                let origin = Origin::File(Arc::clone(file), node.span);
                self.written.insert(key, Written { value: node.value.clone(), origin });
            } else if inside(&longer).is_empty() {
                let complaint =
                    unknown(&longer).nearest(step, inside(path)).or_hint(|| format!("settings here: {}", inside(path).join(", ")));
                complaint.report(&mut self.mistakes, file, *span, pointer, None);
            } else {
                self.node(file, &longer, &pointer, node);
            }
        }
    }

    /// Adds the variables that are settings.
    pub(super) fn variables(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let path = path.to_ascii_lowercase().replace("__", ".");
            match known(&path) {
                Some(key) => self.text(key, value, Origin::Variable(name.as_str().into())),
                None => {
                    let as_variable = |key: &str| format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"));
                    let complaint = wrong(format!("variable `{name}` sets nothing")).expected("a setting, two underscores a level");
                    let complaint = match nearest(&path, paths()) {
                        Some(key) => complaint.hint(format!("did you mean `{}`?", as_variable(key))),
                        None => complaint.hint(format!("for example `{}`", as_variable("core.cache.redis_url"))),
                    };
                    complaint.report(&mut self.mistakes, &"environment".into(), Span::default(), "".into(), None);
                }
            }
        }
    }

    /// Adds flags, `key=value`.
    pub(super) fn flags(&mut self, flags: &[String]) {
        for flag in flags {
            let complaint = match flag.split_once('=') {
                Some((path, value)) => match known(path) {
                    Some(key) => {
                        self.text(key, value, Origin::Flag);
                        continue;
                    }
                    None => {
                        unknown(path).nearest(path, paths()).or_hint(|| format!("settings: {}", paths().collect::<Vec<_>>().join(", ")))
                    }
                },
                None => wrong(format!("{} sets nothing", show_text(flag))).expected("`key=value`, for example `core.logging.level=debug`"),
            };
            complaint.report(&mut self.mistakes, &FLAG.into(), Span::default(), "".into(), None);
        }
    }

    fn text(&mut self, key: &'static str, value: &str, origin: Origin) {
        self.written.insert(key, Written { value: Value::Str(value.into()), origin });
    }
}

fn paths() -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().map(Known::path)
}

fn known(path: &str) -> Option<&'static str> {
    paths().find(|key| *key == path)
}

fn unknown(path: &str) -> Complaint {
    wrong(format!("there is no setting {}", show_text(path)))
}

/// What can stand directly below a path.
fn inside(path: &str) -> Vec<&'static str> {
    let step = |key: &'static str| {
        let rest = if path.is_empty() { key } else { key.strip_prefix(path)?.strip_prefix('.')? };
        rest.split('.').next()
    };
    let mut steps: Vec<&str> = paths().filter_map(step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

impl Written {
    /// The file and the place to name in a complaint.
    pub(super) fn place(&self) -> (Arc<str>, Span) {
        match &self.origin {
            Origin::File(file, span) => (Arc::clone(file), *span),
            Origin::Variable(name) => (Arc::clone(name), Span::default()),
            Origin::Flag | Origin::Unset => (FLAG.into(), Span::default()),
        }
    }
}
