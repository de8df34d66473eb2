//! The mix as a file: which tenants there are, what they ask for, and how often each.
//!
//! YAML or JSON, read with the reader of our documents: unknown and repeated fields are refused, and all mistakes are told at once,
//! each with its line.

use super::answer::Names;
use super::options::{method, path, skew, status};
use super::plan::{Header, Kind, Message, Share};
use crate::sidecar::unusable;
use crate::versus::step::Error;
use bulkhead_config::diagnostic::nearest;
use bulkhead_config::text::{self, Budget, Key, Node, Value};
use bytes::Bytes;
use std::path::Path;
use std::str::FromStr;

/// Tenants that one entry may stand for.
const COUNT_MAX: u64 = 1_000_000;

/// A mix, as its file has it.
#[derive(Debug)]
pub(crate) struct Mix {
    pub(crate) tenants: Vec<Share>,
    pub(crate) zipf: f64,
    pub(crate) answer_tenant: Option<Names>,
    pub(crate) requests: Vec<Kind>,
}

impl Mix {
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(file).map_err(unusable(file.display()))?;
        Self::parse(&file.display().to_string(), &text).map_err(|mistakes| Error::Usage(mistakes.join("\n       ")))
    }

    fn parse(name: &str, text: &str) -> Result<Self, Vec<String>> {
        let read = text::read(name, text, Budget::FILE);
        let broken = read.cut.iter().chain(read.trees.iter().flat_map(|tree| &tree.mistakes));
        let mut mistakes = Mistakes { file: name.to_owned(), found: broken.map(|mistake| format!("{name}: {mistake}")).collect() };
        let mix = match &read.trees[..] {
            _ if !mistakes.found.is_empty() => None,
            [tree] => tree.root.as_ref().map(|root| Self::of(root, &mut mistakes)),
            trees => {
                mistakes.found.push(format!("{name} holds {} documents; a mix is one", trees.len()));
                None
            }
        };
        mix.filter(|_| mistakes.found.is_empty()).ok_or(mistakes.found)
    }

    fn of(root: &Node, mistakes: &mut Mistakes) -> Self {
        let mut fields = Fields::of(root, &["tenants", "zipf", "answer_tenant", "requests"], mistakes);
        let mix = Self {
            zipf: fields.number("zipf", 0.0, skew),
            answer_tenant: fields.parsed("answer_tenant"),
            tenants: fields.list("tenants").iter().flat_map(|node| tenants(node, fields.mistakes)).collect(),
            requests: fields.list("requests").iter().map(|node| request(node, fields.mistakes)).collect(),
        };
        fields.required("requests", mix.requests.is_empty(), "at least one request");
        mix
    }
}

/// The tenants of one entry: one, or as many as its `count` says, with their numbers for `{n}`.
fn tenants(node: &Node, mistakes: &mut Mistakes) -> Vec<Share> {
    let mut fields = Fields::of(node, &["name", "host", "weight", "token", "count"], mistakes);
    let [name, host, token] = ["name", "host", "token"].map(|field| fields.text(field));
    let weight = fields.number("weight", 1.0, super::plan::weight);
    let count = fields.count("count").unwrap_or(1);
    fields.required("name", name.as_deref().is_none_or(str::is_empty), "the tenant's name");
    let name = name.unwrap_or_default();
    if count > 1 && !name.contains("{n}") {
        fields.say("name", "is the same for all of `count`: write {n} where its number belongs");
    }
    let numbered = |text: &str, n: u64| text.replace("{n}", &n.to_string());
    let share = |n| Share {
        name: numbered(&name, n),
        host: host.as_deref().map(|host| numbered(host, n)),
        token: token.as_deref().map(|token| numbered(token, n)),
        weight,
    };
    (1..=count).map(share).collect()
}

fn request(node: &Node, mistakes: &mut Mistakes) -> Kind {
    let known = ["weight", "method", "path", "headers", "body", "body_size", "message", "expect"];
    let mut fields = Fields::of(node, &known, mistakes);
    let message: Option<Message> = fields.parsed("message");
    for field in ["method", "body", "body_size"] {
        if message.is_some() && fields.get(field).is_some() {
            fields.say(field, "is not for gRPC calls, which `message` makes");
        }
    }
    if fields.get("body").is_some() && fields.get("body_size").is_some() {
        fields.say("body_size", "stands beside `body`, which has its own");
    }
    let body = fields.text("body").map(Bytes::from);
    let size = fields.count("body_size").and_then(|size| usize::try_from(size).ok());
    let written = fields.checked("path", path);
    fields.required("path", written.is_none(), "the path that is asked for, as /v1/items");
    Kind {
        weight: fields.number("weight", 1.0, super::plan::weight),
        method: fields.checked("method", method).unwrap_or_else(|| if message.is_some() { "POST" } else { "GET" }.to_owned()),
        path: written.unwrap_or_default(),
        headers: fields.headers(),
        grpc: message.is_some(),
        body: message.map(|message| message.framed()).or(body).unwrap_or_else(|| vec![b'x'; size.unwrap_or(0)].into()),
        expected: fields.statuses("expect").into(),
    }
}

/// What is wrong with a file.
struct Mistakes {
    file: String,
    found: Vec<String>,
}

/// The fields of one mapping.
struct Fields<'a, 'b> {
    node: &'a Node,
    mistakes: &'b mut Mistakes,
}

impl<'a, 'b> Fields<'a, 'b> {
    /// Those of `node`, of which `known` may be.
    fn of(node: &'a Node, known: &[&str], mistakes: &'b mut Mistakes) -> Self {
        let mut fields = Self { node, mistakes };
        let Value::Map(entries) = &node.value else {
            fields.wrong(node, "this is no mapping of fields");
            return fields;
        };
        for (Key { text, span }, _) in entries.iter().filter(|(key, _)| !known.contains(&&*key.text)) {
            let meant = nearest(text, known.iter().copied()).map(|name| format!("; is `{name}` meant?")).unwrap_or_default();
            let known = known.join(", ");
            fields
                .mistakes
                .found
                .push(format!("{}:{}: there is no field `{text}` here{meant} Known: {known}", fields.mistakes.file, span.line));
        }
        fields
    }

    fn wrong(&mut self, node: &Node, why: &str) {
        self.mistakes.found.push(format!("{}:{}: {why}", self.mistakes.file, node.span.line));
    }

    fn say(&mut self, field: &str, why: &str) {
        let node = self.get(field).unwrap_or(self.node);
        self.wrong(node, &format!("`{field}` {why}"));
    }

    fn required(&mut self, field: &str, lacks: bool, what: &str) {
        // Where it stands and is wrong, that has been said.
        if lacks && self.get(field).is_none_or(|node| matches!(node.value, Value::List(_) | Value::Str(_))) {
            self.say(field, &format!("is missing: {what}"));
        }
    }

    fn get(&self, field: &str) -> Option<&'a Node> {
        self.node.value.get(field)
    }

    fn list(&mut self, field: &str) -> &'a [Node] {
        match self.get(field) {
            None => &[],
            Some(Node { value: Value::List(nodes), .. }) => nodes,
            Some(_) => {
                self.say(field, "is no list");
                &[]
            }
        }
    }

    fn text(&mut self, field: &str) -> Option<String> {
        let node = self.get(field)?;
        let text = node.value.as_str().map(str::to_owned);
        if text.is_none() {
            self.say(field, "is no text");
        }
        text
    }

    fn parsed<T: FromStr<Err = String>>(&mut self, field: &str) -> Option<T> {
        self.checked(field, str::parse)
    }

    fn checked<T>(&mut self, field: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(field)?;
        parse(&text).map_err(|why| self.say(field, &format!("is `{text}`, and {why}"))).ok()
    }

    fn number(&mut self, field: &str, default: f64, parse: impl FnOnce(&str) -> Result<f64, String>) -> f64 {
        let written = match self.get(field).map(|node| &node.value) {
            None => return default,
            Some(Value::Int(number)) => number.to_string(),
            Some(Value::Float(number)) => number.to_string(),
            Some(_) => String::new(),
        };
        parse(&written).unwrap_or_else(|why| {
            self.say(field, &format!("cannot be: {why}"));
            default
        })
    }

    fn count(&mut self, field: &str) -> Option<u64> {
        let Value::Int(number) = self.get(field)?.value else {
            self.say(field, "is no whole number");
            return None;
        };
        let number = u64::try_from(number).ok().filter(|number| (1..=COUNT_MAX).contains(number));
        if number.is_none() {
            self.say(field, &format!("is not within 1 and {COUNT_MAX}"));
        }
        number
    }

    fn headers(&mut self) -> Vec<Header> {
        let Some(node) = self.get("headers") else { return Vec::new() };
        let Value::Map(entries) = &node.value else {
            self.say("headers", "is no mapping of names to values");
            return Vec::new();
        };
        let mut headers = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            match format!("{}: {}", name.text, value.value.as_str().unwrap_or_default()).parse() {
                Ok(header) if value.value.as_str().is_some() => headers.push(header),
                Ok(_) => self.wrong(value, &format!("the value of header `{}` is no text", name.text)),
                Err(why) => self.wrong(value, &format!("header `{}`: {why}", name.text)),
            }
        }
        headers
    }

    fn statuses(&mut self, field: &str) -> Vec<u16> {
        let nodes = self.list(field);
        let mut statuses = Vec::with_capacity(nodes.len());
        for node in nodes {
            let text = if let Value::Int(number) = node.value { number.to_string() } else { String::new() };
            match status(&text) {
                Ok(status) => statuses.push(status),
                Err(why) => self.wrong(node, &format!("in `{field}`: {why}")),
            }
        }
        statuses
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_read_as_written() {
        let mix = Mix::parse(
            "mix.yaml",
            "tenants:\n  - { name: acme, host: acme.test, weight: 3, token: t1 }\n  - { name: \"t{n}\", host: \"{n}.test\", count: 3 }\n\
             zipf: 1.5\nanswer_tenant: /told/tenant\nrequests:\n  - { path: /a, weight: 8, expect: [200, 404] }\n\
             \x20 - { method: PUT, path: /b, body: hello, headers: { content-type: text/plain } }\n\
             \x20 - { path: /s.S/C, message: \"hex:0a\" }\n",
        )
        .unwrap();
        let names: Vec<_> = mix.tenants.iter().map(|share| (share.name.as_str(), share.host.as_deref().unwrap(), share.weight)).collect();
        assert_eq!(names, [("acme", "acme.test", 3.0), ("t1", "1.test", 1.0), ("t2", "2.test", 1.0), ("t3", "3.test", 1.0)]);
        assert_eq!(
            (mix.zipf, mix.tenants[0].token.as_deref(), mix.answer_tenant),
            (1.5, Some("t1"), Some(Names::Pointer("/told/tenant".into())))
        );
        let [get, put, call] = &mix.requests[..] else { unreachable!("three requests") };
        assert_eq!((get.method.as_str(), get.path.as_str(), get.weight, &*get.expected), ("GET", "/a", 8.0, &[200, 404][..]));
        assert_eq!((put.method.as_str(), &put.body[..], put.headers.len()), ("PUT", &b"hello"[..], 1));
        assert_eq!((call.method.as_str(), call.grpc, &call.body[..]), ("POST", true, &[0, 0, 0, 0, 1, 10][..]));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let mistakes = Mix::parse(
            "mix.yaml",
            "tenant: []\ntenants:\n  - { nam: acme }\n  - { name: t, count: 2 }\n  - { name: t, weight: 0 }\nzipf: -1\nrequests:\n\
             \x20 - { method: get, path: a }\n  - { path: /b, headers: { host: a }, expect: [20] }\n  - { path: /c, message: \"hex:0\" }\n",
        );
        let mistakes = mistakes.unwrap_err();
        for (line, word) in [
            (1, "is `tenants` meant?"),
            (3, "is `name` meant?"),
            (3, "the tenant's name"),
            (4, "{n}"),
            (5, "weight"),
            (6, "zipf"),
            (8, "method"),
            (8, "path"),
            (9, "host"),
            (9, "expect"),
            (10, "hex:"),
        ] {
            let found = mistakes.iter().any(|told| told.starts_with(&format!("mix.yaml:{line}: ")) && told.contains(word));
            assert!(found, "{line} {word}: {mistakes:#?}");
        }
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for bad in [
            "",
            "[]",
            "a: 1\n---\nb: 2\n",
            "requests: []",
            "requests: 5",
            "tenants: [{name: a}]",
            "requests: [{path: /a, path: /b}]",
            "requests: [{path: /a, body: b, body_size: 3}]",
            "{",
        ] {
            assert!(Mix::parse("mix.yaml", bad).is_err(), "{bad:?}");
        }
    }
}
