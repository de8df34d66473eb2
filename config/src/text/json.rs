//! JSON (RFC 8259), strictly: for documents, and for the headers and claims of tokens.
//!
//! Cost: per token that is not remembered; one pass, strings without escapes are copied once.
//! Strict because what two parsers read differently is how a token means one thing to us and another to the next
//! (RFC 8725 section 3): duplicate names, lone surrogates, trailing commas, comments and leading zeros are refused.

use super::build::{Entries, Tally};
use super::{
    Budget, Fault, KEY_BYTES_MAX, Key, MISTAKES_MAX, Mistake, Node, START, Text, Tree, Value, below, scalar, show_text, span, utf8,
};
use crate::diagnostic::Span;
use std::borrow::Cow;
use std::sync::Arc;

/// Reads one value, all of the bytes and nothing else.
///
/// # Errors
/// The first mistake and its place.
pub fn read(bytes: &[u8], budget: Budget) -> Result<Node, Mistake> {
    if bytes.len() > budget.bytes {
        let fault = Fault::Bytes { found: bytes.len(), most: budget.bytes };
        return Err(Mistake { span: START, pointer: "".into(), fault });
    }
    let mut reader = Reader::new(utf8(bytes)?, budget);
    let node = reader.value(0)?;
    reader.end()?;
    match reader.mistakes.into_iter().next() {
        Some(mistake) => Err(mistake),
        None => Ok(node),
    }
}

/// Reads a file: one document, or a list of documents.
pub(super) fn documents(text: &str, budget: Budget) -> Text {
    let mut reader = Reader::new(text, budget);
    let mut trees = Vec::new();
    let cut = reader.trees(&mut trees).err();
    Text { trees, cut }
}

struct Reader<'t> {
    text: &'t str,
    /// The next byte.
    at: usize,
    /// The byte up to which lines and columns were counted, and the place there.
    counted: (usize, Span),
    tally: Tally,
    depth: usize,
    /// The way to the value that is read now; made a pointer only when something is wrong with it.
    way: Vec<Step>,
    /// Mistakes that leave the structure sound.
    mistakes: Vec<Mistake>,
}

/// One step down.
enum Step {
    Key(Arc<str>),
    Item(usize),
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, budget: Budget) -> Self {
        let (counted, tally) = ((0, START), Tally::new(budget));
        Self { text, at: 0, counted, tally, depth: budget.depth, way: Vec::new(), mistakes: Vec::new() }
    }

    fn trees(&mut self, trees: &mut Vec<Tree>) -> Result<(), Mistake> {
        self.blank();
        if self.peek() != Some(b'[') {
            let root = self.value(0)?;
            self.end()?;
            let (span, mistakes) = (root.span, std::mem::take(&mut self.mistakes));
            trees.push(Tree { root: Some(root), span, bytes: 0..self.text.len(), whole: true, mistakes });
            return Ok(());
        }
        self.at += 1;
        self.items(b']', |reader| {
            reader.blank();
            let start = reader.at;
            let root = reader.value(0)?;
            let (span, mistakes) = (root.span, std::mem::take(&mut reader.mistakes));
            trees.push(Tree { root: Some(root), span, bytes: start..reader.at, whole: true, mistakes });
            Ok(())
        })?;
        self.end()
    }

    /// One value, `depth` collections deep. The depth of the recursion is the budget's.
    fn value(&mut self, depth: usize) -> Result<Node, Mistake> {
        self.blank();
        let span = self.span();
        self.tally.take(1).map_err(|fault| self.mistake(span, fault))?;
        let value = match self.peek() {
            Some(b'"') => Value::Str(self.string()?.into()),
            Some(b'{') => Value::Map(self.map(self.deeper(depth, span)?)?),
            Some(b'[') => Value::List(self.list(self.deeper(depth, span)?)?),
            Some(b'-' | b'0'..=b'9') => self.number(span)?,
            Some(b'a'..=b'z') => self.word(span)?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { value, span })
    }

    fn deeper(&self, depth: usize, span: Span) -> Result<usize, Mistake> {
        if depth >= self.depth {
            return Err(self.mistake(span, Fault::Depth(self.depth)));
        }
        Ok(depth + 1)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Mistake> {
        self.at += 1;
        let mut items = Vec::new();
        self.items(b']', |reader| {
            reader.way.push(Step::Item(items.len()));
            items.push(reader.value(depth)?);
            reader.way.pop();
            Ok(())
        })?;
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Mistake> {
        self.at += 1;
        let mut entries = Entries::default();
        self.items(b'}', |reader| {
            reader.blank();
            let span = reader.span();
            if reader.peek() != Some(b'"') {
                return Err(reader.unexpected("a key in double quotes"));
            }
            let text: Arc<str> = reader.string()?.into();
            if text.len() > KEY_BYTES_MAX {
                return Err(reader.mistake(span, Fault::LongKey(KEY_BYTES_MAX)));
            }
            reader.blank();
            reader.expect(b':', "`:`")?;
            reader.way.push(Step::Key(Arc::clone(&text)));
            let node = reader.value(depth)?;
            reader.way.pop();
            match entries.place(&text) {
                None => entries.push(Key { text, span }, node),
                Some(first) if reader.mistakes.len() < MISTAKES_MAX => {
                    let mistake = reader.mistake(span, Fault::Duplicate { key: text, first });
                    reader.mistakes.push(mistake);
                }
                Some(_) => {}
            }
            Ok(())
        })?;
        Ok(entries.finish())
    }

    /// What stands between brackets, up to and with the closing one.
    fn items(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Result<(), Mistake>) -> Result<(), Mistake> {
        self.blank();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            self.blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected(if close == b']' { "`,` or `]`" } else { "`,` or `}`" })),
            }
        }
    }

    /// `true`, `false`, `null`.
    fn word(&mut self, span: Span) -> Result<Value, Mistake> {
        let length = self.rest().bytes().take_while(u8::is_ascii_alphanumeric).count();
        let word = self.rest().get(..length).unwrap_or_default();
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => return Err(self.mistake(span, json("a value", show_text(word), Some("strings stand in double quotes")))),
        };
        self.at += length;
        Ok(value)
    }

    /// `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][-+]?[0-9]+)?`
    fn number(&mut self, span: Span) -> Result<Value, Mistake> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && zero {
            return Err(self.mistake(span, json("a number", "a leading zero".to_owned(), None)));
        }
        let mut whole = true;
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'-' | b'+')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let written = self.text.get(start..self.at).unwrap_or_default();
        match written.parse() {
            Ok(number) if whole => Ok(Value::Int(number)),
            _ => scalar::finite(written).map_err(|fault| self.mistake(span, fault)),
        }
    }

    /// One or more digits; how many.
    fn digits(&mut self) -> Result<usize, Mistake> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return Err(self.unexpected("a digit"));
        }
        self.at += count;
        Ok(count)
    }

    fn string(&mut self) -> Result<Cow<'t, str>, Mistake> {
        self.at += 1;
        let mut text = Cow::Borrowed(self.plain());
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    let escaped = self.escape()?;
                    let text = text.to_mut();
                    text.push(escaped);
                    text.push_str(self.plain());
                }
                Some(_) => {
                    let hint = Some(r"write control characters as escapes, for example `\n`");
                    return Err(self.mistake(self.place(), json("a character or `\"`", self.shown(), hint)));
                }
                None => return Err(self.unexpected("a character or `\"`")),
            }
        }
    }

    /// Characters that stand for themselves, up to one that does not.
    fn plain(&mut self) -> &'t str {
        let rest = self.rest();
        let length = rest.bytes().take_while(|&b| b != b'"' && b != b'\\' && b >= 0x20).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn escape(&mut self) -> Result<char, Mistake> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected(r#"one of `"`, `\`, `/`, `b`, `f`, `n`, `r`, `t`, `u` after the backslash"#)),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// What follows `\u`: four digits, or two times four for a character beyond the basic plane (RFC 8259 section 7).
    fn unicode(&mut self) -> Result<char, Mistake> {
        const PAIR: &str = "a pair of surrogates, the high one first";
        let high = self.hex4()?;
        if !(0xd800..0xe000).contains(&high) {
            return char::from_u32(high).ok_or_else(|| self.unexpected(PAIR));
        }
        if high >= 0xdc00 || !self.rest().starts_with("\\u") {
            return Err(self.unexpected(PAIR));
        }
        self.at += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(self.unexpected(PAIR));
        }
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(|| self.unexpected(PAIR))
    }

    fn hex4(&mut self) -> Result<u32, Mistake> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.unexpected("four hexadecimal digits")),
        }
    }

    fn end(&mut self) -> Result<(), Mistake> {
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), Mistake> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(name));
        }
        self.at += 1;
        Ok(())
    }

    fn blank(&mut self) {
        self.at += self.rest().bytes().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The place of the next character. Counts on from where it counted to, so that one long line costs no square.
    fn span(&mut self) -> Span {
        let span = self.place();
        self.counted = (self.at, span);
        span
    }

    fn place(&self) -> Span {
        let (from, Span { line, column }) = self.counted;
        let between = self.text.get(from..self.at).unwrap_or_default();
        match between.rsplit_once('\n') {
            None => Span { line, column: column.saturating_add(span(0, between.chars().count()).column) },
            Some((before, last)) => {
                let lines = before.bytes().filter(|&b| b == b'\n').count() + 1;
                Span { line: line.saturating_add(span(lines, 0).line), column: span(0, last.chars().count() + 1).column }
            }
        }
    }

    fn mistake(&self, span: Span, fault: Fault) -> Mistake {
        let pointer = self.way.iter().fold("".into(), |pointer: Arc<str>, step| match step {
            Step::Key(key) => below(&pointer, key),
            Step::Item(at) => below(&pointer, &at.to_string()),
        });
        Mistake { span, pointer, fault }
    }

    /// The next character in words.
    fn shown(&self) -> String {
        self.rest().chars().next().map_or_else(|| "the end".to_owned(), |c| show_text(c.encode_utf8(&mut [0; 4])))
    }

    fn unexpected(&self, expected: &'static str) -> Mistake {
        let hint = match self.peek() {
            Some(b'\'') => Some("strings stand in double quotes"),
            Some(b'/' | b'#') => Some("JSON has no comments; a file of YAML may have them"),
            Some(b']' | b'}') => Some("no comma stands before the closing bracket"),
            _ => None,
        };
        self.mistake(self.place(), json(expected, self.shown(), hint))
    }
}

fn json(expected: &'static str, found: String, hint: Option<&'static str>) -> Fault {
    Fault::Json { expected, found, hint }
}
