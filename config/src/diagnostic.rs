//! What is wrong in what was declared: where, what was expected, what stands there, and how to fix it.
//!
//! Every reader and the compiler collect into one [`Diagnostics`], so that one run shows all mistakes at once.

use std::fmt;
use std::sync::Arc;

/// Where a piece of text stands in its file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
}

/// A value with the place it was written at.
#[derive(Debug, Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
    /// JSON pointer (RFC 6901) within its document.
    pub pointer: Arc<str>,
}

impl<T> std::ops::Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Two values are the same declaration whether or not they stand on the same line.
impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file (or `stdin`, `argument`, a request's body) as the user named it.
    pub file: Arc<str>,
    /// Its place there.
    pub span: Span,
    /// The document, as `Kind name` or `Kind tenant/name`, once that much could be read.
    pub document: Option<Arc<str>>,
    /// JSON pointer (RFC 6901) within the document.
    pub pointer: Arc<str>,
    /// What is wrong, a sentence without the place.
    pub message: String,
    /// What was expected there, if that can be said in a few words.
    pub expected: Option<String>,
    /// What stands there, shortened; never a secret.
    pub found: Option<String>,
    /// How to fix it, nearest known name included.
    pub hint: Option<String>,
}

/// All mistakes of one run, in the order of files and lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one mistake.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Adds all of another run.
    pub fn append(&mut self, mut other: Diagnostics) {
        self.list.append(&mut other.list);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many mistakes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The mistakes, ordered by file, line and column.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// `value` when nothing is wrong.
    ///
    /// # Errors
    /// The mistakes themselves, sorted, when there are any.
    pub fn into_result<T>(mut self, value: T) -> Result<T, Diagnostics> {
        if self.list.is_empty() {
            return Ok(value);
        }
        self.sort();
        Err(self)
    }

    /// Orders by file, line and column, so that the order of reading shows nowhere.
    pub fn sort(&mut self) {
        self.list.sort_by(|a, b| (&a.file, a.span, &a.pointer).cmp(&(&b.file, b.span, &b.pointer)));
        self.list.dedup();
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl Diagnostic {
    /// For programs. Keys stay; more may come.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": &*self.file,
            "line": self.span.line,
            "column": self.span.column,
            "document": self.document.as_deref(),
            "pointer": &*self.pointer,
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        })
    }
}

/// One line: `file:line:column: message (expected …, found …); hint`.
impl Diagnostic {
    /// `file:line:column`; what stands in no lines, a flag or a variable, by its name alone.
    #[must_use]
    pub fn place(&self) -> String {
        match self.span {
            Span { line: 0, .. } => self.file.to_string(),
            Span { line, column } => format!("{}:{line}:{column}", self.file),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place())?;
        if let Some(document) = &self.document {
            write!(f, "{document}: ")?;
        }
        f.write_str(&self.message)?;
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => write!(f, " (expected {expected}, found {found})")?,
            (Some(expected), None) => write!(f, " (expected {expected})")?,
            (None, Some(found)) => write!(f, " (found {found})")?,
            (None, None) => {}
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.list.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The known name nearest to `written`, if one is near enough to be meant (edit distance at most a third of its length).
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = (written.chars().count() / 3).max(1);
    known.into_iter().filter_map(|name| distance(written, name, near).map(|d| (d, name))).min().map(|(_, name)| name)
}

/// Edit distance with transpositions (optimal string alignment), or `None` above `most`.
fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > most || a.len() > 256 {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|&d| d <= most)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_may_be_meant() {
        let known = ["tenant_id", "name", "email", "api_quota_per_hour"];
        assert_eq!(nearest("tenant_di", known), Some("tenant_id"));
        assert_eq!(nearest("api_quota_per_hours", known), Some("api_quota_per_hour"));
        assert_eq!(nearest("emial", known), Some("email"));
        assert_eq!(nearest("colour", known), None);
    }
}
