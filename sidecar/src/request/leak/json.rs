//! Whose a JSON text is: what stands at the places of a pointer, held against one name, in one pass.
//!
//! Cost: per byte of the text, one look; nothing is built of it. A kibibyte takes about a microsecond.
//! What is no JSON (RFC 8259) names nobody. A member that stands twice is looked at twice: readers disagree which one counts.

use bulkhead_config::snapshot::Step;
use std::borrow::Cow;

/// Values within values.
const DEPTH_MAX: u32 = 128;

/// What a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Every place is there and has the name.
    Ours,
    /// One has another.
    Other(String),
    /// Something is missing, or is no string.
    Nobody,
    /// It is no JSON.
    NoJson,
}

/// Holds what stands at the places of `steps` against `name`.
#[must_use]
pub fn says(text: &[u8], steps: &[Step], name: &str) -> Says {
    let mut walk = Walk { text, at: 0, name, other: None, is_missing: false };
    let is_json = walk.document(steps).is_some();
    match (walk.other, is_json) {
        // Whatever comes behind it: a reader that stops early has read this.
        (Some(other), _) => Says::Other(other),
        (None, false) => Says::NoJson,
        (None, true) if walk.is_missing => Says::Nobody,
        (None, true) => Says::Ours,
    }
}

/// A walk through a text. Every step gives nothing where the text is no JSON.
struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    name: &'a str,
    other: Option<String>,
    is_missing: bool,
}

impl<'a> Walk<'a> {
    fn document(&mut self, steps: &[Step]) -> Option<()> {
        self.value(Some(steps), DEPTH_MAX)?;
        self.blank();
        (self.at == self.text.len()).then_some(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        self.blank();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// A value; `steps` lead on from here to what is looked for, if anything of it is in here.
    fn value(&mut self, steps: Option<&[Step]>, depth: u32) -> Option<()> {
        self.blank();
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'{' => self.object(steps, depth),
            b'[' => self.array(steps, depth),
            b'"' => {
                let text = self.string()?;
                match steps {
                    Some([]) => self.compare(&text),
                    Some(_) => self.is_missing = true,
                    None => {}
                }
                Some(())
            }
            _ => {
                self.is_missing |= steps.is_some();
                self.scalar()
            }
        }
    }

    fn compare(&mut self, text: &str) {
        if text != self.name && self.other.is_none() {
            self.other = Some(text.to_owned());
        }
    }

    fn object(&mut self, steps: Option<&[Step]>, depth: u32) -> Option<()> {
        let (step, rest) = self.first(steps);
        let mut is_found = !matches!(step, Some(Step::To(_)));
        self.at += 1;
        self.blank();
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                self.blank();
                let member = self.string()?;
                self.take(b':')?;
                let is_meant = match step {
                    None => false,
                    Some(Step::Each) => true,
                    Some(Step::To(name)) => *name == *member,
                };
                is_found |= is_meant;
                self.value(rest.filter(|_| is_meant), depth)?;
                if !self.goes_on(b'}')? {
                    break;
                }
            }
        }
        self.is_missing |= !is_found;
        Some(())
    }

    fn array(&mut self, steps: Option<&[Step]>, depth: u32) -> Option<()> {
        let (step, rest) = self.first(steps);
        let wanted = match step {
            // No sign, and no zero in front (RFC 6901 section 4).
            Some(Step::To(name)) if name == "0" || !name.starts_with(['0', '+']) => name.parse::<usize>().ok(),
            _ => None,
        };
        let mut is_found = !matches!(step, Some(Step::To(_)));
        self.at += 1;
        self.blank();
        if self.peek()? == b']' {
            self.at += 1;
        } else {
            for index in 0.. {
                let is_meant = matches!(step, Some(Step::Each)) || wanted == Some(index);
                is_found |= is_meant;
                self.value(rest.filter(|_| is_meant), depth)?;
                if !self.goes_on(b']')? {
                    break;
                }
            }
        }
        self.is_missing |= !is_found;
        Some(())
    }

    /// The next step and those behind it. Where they end in a list or an object, that is no name.
    fn first<'s>(&mut self, steps: Option<&'s [Step]>) -> (Option<&'s Step>, Option<&'s [Step]>) {
        match steps {
            Some([step, rest @ ..]) => (Some(step), Some(rest)),
            Some([]) => {
                self.is_missing = true;
                (None, None)
            }
            None => (None, None),
        }
    }

    /// Whether another element comes behind a comma; else the end must.
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        self.blank();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => Some(true),
            byte if byte == end => Some(false),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let rest = self.text.get(start..)?;
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        if rest.get(plain) == Some(&b'"') {
            self.at = start + plain + 1;
            return std::str::from_utf8(rest.get(..plain)?).ok().map(Cow::Borrowed);
        }
        // Escapes are rare: a library reads them, of which this is only the end.
        let mut end = plain;
        loop {
            match rest.get(end)? {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        self.at = start + end + 1;
        serde_json::from_slice::<String>(self.text.get(start - 1..self.at)?).ok().map(Cow::Owned)
    }

    /// A number or one of three words.
    fn scalar(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let length = rest.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len());
        let text = rest.get(..length)?;
        self.at += length;
        (matches!(text, b"true" | b"false" | b"null") || is_number(text)).then_some(())
    }
}

/// A number as RFC 8259 section 6 has it.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &mut &[u8]| {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        *text = text.get(count..).unwrap_or_default();
        count
    };
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let begins_with_zero = rest.first() == Some(&b'0');
    let whole = digits(&mut rest);
    if whole == 0 || (begins_with_zero && whole > 1) {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        rest = fraction;
        if digits(&mut rest) == 0 {
            return false;
        }
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        rest = exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent);
        if digits(&mut rest) == 0 {
            return false;
        }
    }
    rest.is_empty()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(pointer: &str) -> Vec<Step> {
        let step = |step: &str| if step == "*" { Step::Each } else { Step::To(step.to_owned()) };
        pointer.split('/').skip(1).map(step).collect()
    }

    #[test]
    fn every_place_must_name_the_tenant_and_what_names_nobody_is_told_from_what_names_another() {
        let other = |name: &str| Says::Other(name.to_owned());
        for (pointer, text, said) in [
            ("/t", r#"{"t":"acme"}"#, Says::Ours),
            ("/t", r#" { "a" : [1, {"t": "globex"}] , "t" : "acme" } "#, Says::Ours),
            ("/t", r#"{"t":"globex"}"#, other("globex")),
            ("/t", r#"{"\u0074":"globex"}"#, other("globex")),
            ("/t", r#"{"t":"acme\u0000"}"#, other("acme\0")),
            ("/t", r#"{"t":"\u0061cme"}"#, Says::Ours),
            // Readers disagree which one counts.
            ("/t", r#"{"t":"acme","t":"globex"}"#, other("globex")),
            ("/t", r#"{"t":"globex","t":"acme"}"#, other("globex")),
            ("/t", r#"{"t":"globex" nonsense"#, other("globex")),
            ("/t", r#"{"T":"acme"}"#, Says::Nobody),
            ("/t", r#"{"t":null}"#, Says::Nobody),
            ("/t", r#"{"t":["acme"]}"#, Says::Nobody),
            ("/t", r#"["acme"]"#, Says::Nobody),
            ("/t", "{}", Says::Nobody),
            ("/t", "7", Says::Nobody),
            ("/items/*/t", r#"{"items":[{"t":"acme"},{"t":"acme"}]}"#, Says::Ours),
            ("/items/*/t", r#"{"items":[]}"#, Says::Ours),
            ("/items/*/t", r#"{"items":[{"t":"acme"},{"t":"globex"}]}"#, other("globex")),
            ("/items/*/t", r#"{"items":[{"t":"acme"},{}]}"#, Says::Nobody),
            ("/items/*/t", r#"{"items":[{"t":"acme"},7]}"#, Says::Nobody),
            ("/*/t", r#"{"a":{"t":"acme"},"b":{"t":"globex"}}"#, other("globex")),
            ("/1", r#"["globex","acme"]"#, Says::Ours),
            ("/1", r#"["acme"]"#, Says::Nobody),
            ("/t", "", Says::NoJson),
            ("/t", r#"{"t":"acme"} {"#, Says::NoJson),
            ("/t", r#"{"t":"acme",}"#, Says::NoJson),
            ("/t", r#"{"t":"acme","n":01}"#, Says::NoJson),
            ("/t", r#"{"t":"acme","n":-}"#, Says::NoJson),
            ("/t", r#"{'t':'acme'}"#, Says::NoJson),
            ("/t", "{\"t\":\"acme\n\"}", Says::NoJson),
            ("/t", "{\"t\":\"acme\\\n\"}", Says::NoJson),
            ("/t", r#"{"t":"acme""#, Says::NoJson),
        ] {
            assert_eq!(says(text.as_bytes(), &steps(pointer), "acme"), said, "{pointer} in {text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(says(deep.as_bytes(), &steps("/t"), "acme"), Says::NoJson, "and the stack holds");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter_map("a number", |number| serde_json::Number::from_f64(number).map(Into::into)),
            "\\PC{0,6}|acme".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::btree_map("[ab\"\\\\]{0,2}", inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_a_library_finds(value in json(), pretty in any::<bool>(), pointer in "(/[ab0-2]){1,3}") {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let expected = match value.pointer(&pointer) {
                Some(serde_json::Value::String(name)) if name == "acme" => Says::Ours,
                Some(serde_json::Value::String(name)) => Says::Other(name.clone()),
                _ => Says::Nobody,
            };
            prop_assert_eq!(says(&text, &steps(&pointer), "acme"), expected, "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn it_takes_for_json_what_a_library_takes_for_it(text in "[\\[\\]{}\",:0-9a-e\\\\ntrufals .+-]{0,24}") {
            // A number that fits no float is JSON all the same.
            let read = serde_json::from_str::<serde_json::Value>(&text);
            let is_json = read.map_or_else(|error| error.to_string().contains("out of range"), |_| true);
            let says = says(text.as_bytes(), &steps("/zz"), "acme");
            prop_assert_eq!(says != Says::NoJson, is_json, "{}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = says(&text, &steps("/t/*"), "acme");
        }
    }
}
