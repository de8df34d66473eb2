//! Tokens of an expression, by the lexis of CEL.

use super::{At, Fault};

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name.
    Name(String),
    /// A whole number without its sign.
    Int(u64),
    /// A whole number with `u` behind it.
    Uint(u64),
    /// A number with a point or an exponent.
    Double(f64),
    /// A string, its escapes resolved.
    Text(String),
    /// An operator or a bracket.
    Mark(&'static str),
    /// The end of the text.
    End,
}

const MARKS: [&str; 25] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "="];

/// Every token of a text with its place; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, At)>, Fault> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.at;
        let token = lexer.token()?;
        let is_end = token == Token::End;
        tokens.push((token, place(start)..place(lexer.at)));
        if is_end {
            return Ok(tokens);
        }
    }
}

/// Texts are far shorter than 4 GiB.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, is_such: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let taken = rest.find(|c| !is_such(c)).map_or(rest, |end| rest.get(..end).unwrap_or_default());
        self.at += taken.len();
        taken
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|c| c.is_ascii_whitespace());
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        let after = self.rest().as_bytes().get(1).copied();
        match (first, after) {
            ('"' | '\'', _) => self.string(false),
            ('r' | 'R', Some(b'"' | b'\'')) => {
                self.at += 1;
                self.string(true)
            }
            ('b' | 'B', Some(b'"' | b'\'')) => {
                Err(self.fault(self.at, "bytes are no part of conditions", "write a string, without the `b`"))
            }
            (c, _) if c.is_ascii_alphabetic() || c == '_' => {
                Ok(Token::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()))
            }
            (c, after) if c.is_ascii_digit() || (c == '.' && after.is_some_and(|b| b.is_ascii_digit())) => self.number(),
            _ => match MARKS.into_iter().find(|mark| self.rest().starts_with(mark)) {
                Some("=") => Err(self.fault(self.at, "`=` compares nothing", "write `==`")),
                Some(mark) => {
                    self.at += mark.len();
                    Ok(Token::Mark(mark))
                }
                None if first == '&' || first == '|' => {
                    Err(self.fault(self.at, format!("`{first}` is no operator"), format!("write `{first}{first}`")))
                }
                None => {
                    let shown = first.escape_debug();
                    Err(self.fault(self.at, format!("`{shown}` begins nothing that CEL knows"), "remove it, or put text in quotes"))
                }
            },
        }
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        let wrong = |lexer: &Self| {
            let end = lexer.rest().find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(lexer.text.len(), |end| lexer.at + end);
            let written = lexer.text.get(start..end).unwrap_or_default();
            lexer.fault(start, format!("`{written}` is no number"), "whole numbers have 64 bits; `u` behind one makes it unsigned")
        };
        let hex = self.rest().strip_prefix("0x").or_else(|| self.rest().strip_prefix("0X")).is_some();
        if hex {
            self.at += 2;
        }
        let digits = if hex { self.take_while(|c| c.is_ascii_hexdigit()) } else { self.take_while(|c| c.is_ascii_digit()) };
        let is_double = !hex && self.fraction_and_exponent();
        let is_unsigned = !is_double && self.rest().starts_with(['u', 'U']);
        if is_unsigned {
            self.at += 1;
        }
        if self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(wrong(self));
        }
        if is_double {
            let number = self.text.get(start..self.at).and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite());
            return number.map(Token::Double).ok_or_else(|| wrong(self));
        }
        match u64::from_str_radix(digits, if hex { 16 } else { 10 }) {
            Ok(number) if is_unsigned => Ok(Token::Uint(number)),
            Ok(number) => Ok(Token::Int(number)),
            Err(_) => Err(wrong(self)),
        }
    }

    /// Whether what was read so far is the whole part of a fraction.
    fn fraction_and_exponent(&mut self) -> bool {
        let begun = self.at;
        let is_digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
        if self.rest().starts_with('.') && is_digit(self.rest().as_bytes().get(1)) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if let [b'e' | b'E', rest @ ..] = self.rest().as_bytes() {
            let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
            if is_digit(rest.get(sign)) {
                self.at += 1 + sign;
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        self.at != begun
    }

    fn string(&mut self, is_raw: bool) -> Result<Token, Fault> {
        let start = self.at;
        let Some(quote) = self.next() else { return Ok(Token::End) };
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                Some(c) if c == quote => return Ok(Token::Text(text)),
                None | Some('\n' | '\r') => {
                    return Err(self.fault(start, "a quote that is never closed", "close the quote on the same line"));
                }
                Some('\\') if !is_raw => text.push(self.escape(at)?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self, at: usize) -> Result<char, Fault> {
        let digits = |lexer: &mut Self, count: usize, radix: u32| {
            let digits = lexer.rest().get(..count).filter(|digits| digits.chars().all(|c| c.is_digit(radix)));
            lexer.at += digits.map_or(0, str::len);
            digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()).and_then(char::from_u32)
        };
        let meant = match self.next() {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('a') => Some('\u{7}'),
            Some('b') => Some('\u{8}'),
            Some('f') => Some('\u{c}'),
            Some('v') => Some('\u{b}'),
            Some(c @ ('\\' | '"' | '\'' | '`' | '?')) => Some(c),
            Some('x' | 'X') => digits(self, 2, 16),
            Some('u') => digits(self, 4, 16),
            Some('U') => digits(self, 8, 16),
            Some('0'..='3') => {
                self.at -= 1;
                digits(self, 3, 8)
            }
            _ => None,
        };
        meant.ok_or_else(|| self.fault(at, "an escape that does not exist", r"write `\\` for a backslash, or a raw string: r'…'"))
    }

    #[expect(clippy::unused_self, reason = "reads as what it is: a fault of this text")]
    fn fault(&self, at: usize, message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault { at, message: message.into(), hint: hint.into() }
    }
}
