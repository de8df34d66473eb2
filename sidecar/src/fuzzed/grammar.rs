//! Grammar: the messages of RFC 9112 read as plainly as they can be, over a whole buffer; the oracle of the readers that must be
//! fast and get their bytes in pieces.

/// A head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Its first line, at its first two spaces.
    pub start: Vec<&'a [u8]>,
    /// Its fields: names in lower case, values without the blanks around them.
    pub fields: Vec<(Vec<u8>, &'a [u8])>,
    /// Bytes of all of it.
    pub length: usize,
}

impl Head<'_> {
    /// Every value of a field.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(other, _)| other == name.as_bytes()).map(|(_, value)| *value).collect()
    }
}

/// A body in chunks.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunked<'a> {
    /// What it carries.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(Vec<u8>, &'a [u8])>,
    /// Bytes of all of it.
    pub length: usize,
}

/// The head that these bytes begin with; one empty line may stand before it.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let rest = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let (start, rest) = line(rest)?;
    let (fields, rest) = fields(rest)?;
    Some(Head { start: start.splitn(3, |byte| *byte == b' ').collect(), fields, length: bytes.len() - rest.len() })
}

/// The chunked body that these bytes begin with.
#[must_use]
pub fn chunked(bytes: &[u8]) -> Option<Chunked<'_>> {
    let (mut body, mut rest) = (Vec::new(), bytes);
    loop {
        let (size, behind) = line(rest)?;
        let size = chunk_size(size)?;
        if size == 0 {
            let (trailers, rest) = fields(behind)?;
            return Some(Chunked { body, trailers, length: bytes.len() - rest.len() });
        }
        let (data, behind) = behind.split_at_checked(size)?;
        body.extend_from_slice(data);
        rest = behind.strip_prefix(b"\r\n")?;
    }
}

/// At most 16 digits, and behind blanks and `;` an extension.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let (digits, extension) = line.split_at(line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len()));
    let is_extension = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    let fits = digits.len() <= 16 && is_extension && is_text(extension);
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok().filter(|_| fits)
}

/// Fields to the empty line that ends them.
#[expect(clippy::type_complexity, reason = "a section and what follows it")]
fn fields(mut rest: &[u8]) -> Option<(Vec<(Vec<u8>, &[u8])>, &[u8])> {
    let mut fields = Vec::new();
    loop {
        let (text, behind) = line(rest)?;
        rest = behind;
        if text.is_empty() {
            return Some((fields, rest));
        }
        let (name, value) = text.split_at_checked(text.iter().position(|byte| *byte == b':')?)?;
        let value = trim(value.strip_prefix(b":")?);
        if !is_token(name) || !is_text(value) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value));
    }
}

/// A line, which ends in CRLF and has neither of them in it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, end) = bytes.split_at_checked(bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?)?;
    Some((text, end.strip_prefix(b"\r\n")?))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether this may be a method or the name of a field (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Whether this may stand in a value: no control character but the tabulator (RFC 9110 section 5.5).
fn is_text(text: &[u8]) -> bool {
    text.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t')
}
