//! A message of HTTP/1.1 as it stands on the wire, read as strictly as RFC 9112 allows, so that a test sees what a careful peer
//! would see, and learns of everything else.

/// What a message is, which decides where its body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request,
    /// An answer to a request of any method but HEAD.
    Answer,
    /// An answer to HEAD.
    AnswerToHead,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Request line or status line.
    pub line: String,
    /// Lines of the header section, in order.
    pub fields: Vec<String>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Lines of the trailer section, in order.
    pub trailers: Vec<String>,
}

impl Message {
    /// The message at the beginning of `bytes` and its length; nothing while it is not whole. `is_all`: no more bytes will come.
    ///
    /// # Errors
    /// What a careful reader stumbles over.
    pub fn read(bytes: &[u8], kind: Kind, is_all: bool) -> Result<Option<(Self, usize)>, String> {
        let Some((mut lines, body)) = section(bytes)? else { return Ok(None) };
        if lines.is_empty() {
            return Err("an empty line where a message begins".to_owned());
        }
        let line = lines.remove(0);
        let mut message = Self { line, fields: lines, body: Vec::new(), trailers: Vec::new() };
        let rest = &bytes[body..];
        let length = match message.framing(kind)? {
            Framing::Nothing => Some(0),
            Framing::Length(length) if rest.len() < length => None,
            Framing::Length(length) => {
                message.body = rest[..length].to_vec();
                Some(length)
            }
            Framing::Chunked => message.take_chunks(rest)?,
            Framing::UntilEnd if !is_all => None,
            Framing::UntilEnd => {
                message.body = rest.to_vec();
                Some(rest.len())
            }
        };
        Ok(length.map(|length| (message, body + length)))
    }

    /// Every message in `bytes`, which are all there are.
    ///
    /// # Errors
    /// What a careful reader stumbles over, or what is left behind the last whole message.
    pub fn read_all(mut bytes: &[u8], kind: Kind) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let (message, length) = Self::read(bytes, kind, true)?.ok_or_else(|| format!("no whole message: {}", bytes.escape_ascii()))?;
            all.push(message);
            bytes = &bytes[length..];
        }
        Ok(all)
    }

    /// Status of the status line.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Method of the request line.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// Target of the request line.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// Values of every field of that name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.fields.iter().filter_map(|field| field.split_once(':'));
        fields.filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches([' ', '\t']))
    }

    /// Takes out the fields of that name.
    pub fn take(&mut self, name: &str) -> Vec<String> {
        let values = self.values(name).map(ToOwned::to_owned).collect();
        self.fields.retain(|field| field.split_once(':').is_none_or(|(other, _)| !other.eq_ignore_ascii_case(name)));
        values
    }

    /// The same with its fields ordered by name: fields of different names may change places (RFC 9110 section 5.3).
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.fields.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
        self
    }

    fn framing(&self, kind: Kind) -> Result<Framing, String> {
        let lengths: Vec<&str> = self.values("content-length").collect();
        let codings: Vec<&str> = self.values("transfer-encoding").collect();
        let status = self.status();
        if kind == Kind::AnswerToHead || kind == Kind::Answer && (status < 200 || status == 204 || status == 304) {
            return Ok(Framing::Nothing);
        }
        match (&lengths[..], &codings[..]) {
            ([], []) if kind == Kind::Request => Ok(Framing::Nothing),
            ([], []) => Ok(Framing::UntilEnd),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map(Framing::Length).map_err(|why| format!("content-length {length}: {why}"))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            _ => Err(format!("no one can say where this ends: {lengths:?} {codings:?}")),
        }
    }

    /// Takes a chunked body from the beginning of `bytes`; its length, or nothing while it is not whole.
    fn take_chunks(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let mut at = 0;
        loop {
            let Some(line) = bytes[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
            let size = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
            let is_plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(&size, 16).ok().filter(|_| is_plain).ok_or_else(|| format!("chunk size `{size}`"))?;
            at += line + 2;
            if size == 0 {
                let Some((trailers, length)) = section(&bytes[at..])? else { return Ok(None) };
                self.trailers = trailers;
                return Ok(Some(at + length));
            }
            let Some(data) = bytes.get(at..at + size + 2) else { return Ok(None) };
            self.body.extend(data.strip_suffix(b"\r\n").ok_or("a chunk longer than it said")?);
            at += size + 2;
        }
    }
}

enum Framing {
    Nothing,
    Length(usize),
    Chunked,
    UntilEnd,
}

/// The lines up to an empty one, and the bytes they take; nothing while that has not come.
fn section(bytes: &[u8]) -> Result<Option<(Vec<String>, usize)>, String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[at..at + end];
        let text = line.strip_suffix(b"\r").filter(|text| !text.contains(&b'\r'));
        let text = text.ok_or_else(|| format!("a line that ends in no CRLF: {}", line.escape_ascii()))?;
        at += end + 1;
        if text.is_empty() {
            return Ok(Some((lines, at)));
        }
        lines.push(text.escape_ascii().to_string());
    }
    Ok(None)
}
