//! One row of the table, as `tests/framing/*.yaml` write it; `tests/framing/README.md` explains the form.

use bulkhead_config::text::{self, Node, Value};
use std::path::{Path, PathBuf};

/// One row.
pub(super) struct Row {
    /// A sentence.
    pub(super) name: String,
    /// File and line.
    pub(super) place: String,
    /// The requirements of RFC 9112 that it shows.
    pub(super) rfc: Vec<String>,
    pub(super) sends: Sends,
    /// What the origin answers, where it is not the usual `ok`.
    pub(super) origin: Option<Origin>,
    /// The requests that the origin receives, where that is not for `origin` rows to say.
    pub(super) forwarded: Option<String>,
    /// The statuses of the answers before the last thing that happens.
    pub(super) answers: Vec<u16>,
    pub(super) ending: Ending,
    /// The sidecar closes the connection.
    pub(super) closes: bool,
}

/// What the client sends.
pub(super) enum Sends {
    /// These bytes.
    Bytes { text: String, then_ends: bool },
    /// A request in HTTP/2.
    Http2 { fields: Vec<(String, String)>, body: String },
}

/// What the origin answers.
pub(super) struct Origin {
    pub(super) text: String,
    pub(super) closes: bool,
}

/// The last thing that happens to a row.
pub(super) enum Ending {
    /// Its last answer.
    Answered,
    /// A refusal. `begun`: the head was fine and may have gone up; its end must not.
    Refused { status: u16, code: String, says: Option<String>, begun: bool },
    /// These answers, byte for byte.
    Received(String),
    /// No answer, and nothing that the origin could take for whole.
    Dropped,
    /// An answer that nobody can take for whole.
    Broken,
    /// The stream is reset, or the connection is ended, with this error (HTTP/2).
    Reset(String),
}

/// The folder of the table.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("framing")
}

/// Every row of every file.
pub(super) fn all() -> Vec<Row> {
    let mut names: Vec<String> = std::fs::read_dir(folder().join("rows"))
        .unwrap()
        .map(|entry| format!("rows/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    names.sort();
    names.iter().flat_map(|name| list(name).into_iter().map(|fields| row(name, fields))).collect()
}

/// One map of a list.
pub(super) struct Fields {
    line: u32,
    fields: Vec<(String, Value)>,
}

/// The list that a file of the folder holds.
pub(super) fn list(name: &str) -> Vec<Fields> {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let read = text::read(name, &text, text::Budget::FILE);
    let tree = &read.trees[0];
    assert!(read.cut.is_none() && tree.whole, "{name}: {:?}", tree.mistakes);
    let Some(Value::List(items)) = tree.root.as_ref().map(|root| &root.value) else { panic!("{name} is a list") };
    items.iter().map(|item| fields(name, item)).collect()
}

fn fields(name: &str, node: &Node) -> Fields {
    let Value::Map(entries) = &node.value else { panic!("{name} line {}: no map", node.span.line) };
    let fields = entries.iter().map(|(key, node)| (key.text.to_string(), node.value.clone())).collect();
    Fields { line: node.span.line, fields }
}

impl Fields {
    /// Takes out a field.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.fields.iter().position(|(other, _)| other == name)?;
        Some(self.fields.remove(at).1)
    }

    /// Takes out a field that is a text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| text_of(&value))
    }

    /// Takes out a field that is a list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::List(items)) => items.iter().map(|item| text_of(&item.value)).collect(),
            Some(value) => vec![text_of(&value)],
        }
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name).map(|value| match value {
            Value::Bool(flag) => flag,
            other => panic!("{name} is {other:?}"),
        })
    }

    /// Every field must have been taken.
    pub(super) fn done(&self, file: &str) {
        assert!(self.fields.is_empty(), "{file} line {}: unknown {:?}", self.line, self.fields);
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Str(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

fn row(file: &str, mut fields: Fields) -> Row {
    let name = fields.text("name").unwrap_or_else(|| panic!("{file} line {}: no name", fields.line));
    assert!(fields.text("family").is_some(), "{name}: no family");
    let sends = match (fields.text("sends"), fields.take("h2")) {
        (Some(text), None) => Sends::Bytes { text, then_ends: fields.flag("ends").unwrap_or(false) },
        (None, Some(Value::List(items))) => Sends::Http2 {
            fields: items.iter().flat_map(|item| http2_fields(&item.value)).collect(),
            body: fields.text("body").unwrap_or_default(),
        },
        _ => panic!("{name}: either `sends` or `h2`"),
    };
    let ending = ending(&mut fields, &name);
    let origin = fields.text("origin").map(|text| Origin { text, closes: fields.flag("origin_closes").unwrap_or(false) });
    let forwarded = fields.text("forwarded");
    let answers = match (fields.texts("answers"), &ending, &forwarded) {
        (answers, ..) if !answers.is_empty() => answers.iter().map(|status| status.parse().unwrap()).collect(),
        (_, Ending::Answered, Some(_)) => vec![200],
        _ => Vec::new(),
    };
    assert!(!(answers.is_empty() && matches!(ending, Ending::Answered)), "{name}: expects nothing");
    let ends_it = matches!(ending, Ending::Refused { .. } | Ending::Dropped | Ending::Broken);
    let closes = fields.flag("closes").unwrap_or(ends_it);
    let row =
        Row { name, place: format!("{file}:{}", fields.line), rfc: fields.texts("rfc"), sends, origin, forwarded, answers, ending, closes };
    fields.done(file);
    row
}

fn ending(fields: &mut Fields, name: &str) -> Ending {
    let (says, begun) = (fields.text("says"), fields.flag("begun").unwrap_or(false));
    if let Some(refused) = fields.text("refused") {
        let (status, code) = refused.split_once(' ').unwrap_or_else(|| panic!("{name}: refused with STATUS CODE"));
        return Ending::Refused { status: status.parse().unwrap(), code: code.to_owned(), says, begun };
    }
    assert!(says.is_none() && !begun, "{name}: only a refusal says something or was begun");
    if let Some(text) = fields.text("received") {
        return Ending::Received(text);
    }
    if let Some(error) = fields.text("reset") {
        return Ending::Reset(error);
    }
    match (fields.flag("dropped"), fields.flag("broken")) {
        (Some(true), None) => Ending::Dropped,
        (None, Some(true)) => Ending::Broken,
        (None, None) => Ending::Answered,
        other => panic!("{name}: dropped, broken: {other:?}"),
    }
}

/// A pair of name and value, or `get` and `post` for what such requests usually say.
fn http2_fields(value: &Value) -> Vec<(String, String)> {
    if let Value::List(pair) = value {
        let [name, value] = &pair[..] else { panic!("a pair of name and value") };
        return vec![(text_of(&name.value), text_of(&value.value))];
    }
    let method = text_of(value).to_uppercase();
    [
        (":method", &*method),
        (":scheme", "http"),
        (":path", "/v1/items"),
        (":authority", "acme.localhost"),
        ("authorization", "Bearer {token}"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The bytes that a text stands for: escapes as in a string literal, and in braces what depends on the run or would be long.
pub(super) fn bytes(text: &str, token: &str) -> Vec<u8> {
    let bearer = "Authorization: Bearer {token}\\r\\n";
    let text = text
        .replace("{get}", "GET /v1/items HTTP/1.1\\r\\n{auth}")
        .replace("{post}", "POST /v1/items HTTP/1.1\\r\\n{auth}")
        .replace("{auth}", "Host: acme.localhost\\r\\n{bearer}")
        .replace("{bearer}", bearer)
        .replace("{up}", "host: acme.localhost\\r\\n{ours}")
        .replace("{token}", token);
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        match first {
            b'\\' => {
                let (byte, length) = escaped(more);
                bytes.push(byte);
                rest = &more[length..];
            }
            b'{' if more.starts_with(b"ours}") => {
                bytes.extend(b"{ours}\r\n");
                rest = &more[b"ours}".len()..];
            }
            b'{' => {
                let end = more.iter().position(|byte| *byte == b'}').expect("a brace is closed");
                bytes.extend(repeated(std::str::from_utf8(&more[..end]).unwrap()));
                rest = &more[end + 1..];
            }
            other => bytes.push(*other),
        }
    }
    bytes
}

/// The byte behind a backslash, and how long its name is.
fn escaped(rest: &[u8]) -> (u8, usize) {
    match rest {
        [b'r', ..] => (b'\r', 1),
        [b'n', ..] => (b'\n', 1),
        [b't', ..] => (b'\t', 1),
        [b'0', ..] => (0, 1),
        [b'\\', ..] => (b'\\', 1),
        [b'x', high, low, ..] => {
            let digits = [*high, *low];
            (u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).expect("two hexadecimal digits"), 3)
        }
        other => panic!("no escape: \\{}", other.escape_ascii()),
    }
}

/// `3*ab` is `ababab`.
fn repeated(text: &str) -> Vec<u8> {
    let (count, what) = text.split_once('*').unwrap_or_else(|| panic!("no placeholder: {{{text}}}"));
    bytes(what, "").repeat(count.parse().unwrap_or_else(|why| panic!("{{{text}}}: {why}")))
}
