//! Words for a POSIX shell: what is printed to be pasted means the same when it is.

use std::borrow::Cow;

/// A word, quoted where the shell would read it otherwise.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '=' | ',' | '@' | '%' | '+');
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::word;
    use std::process::Command;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        for text in ["/usr/bin/bulkhead", "/home/a b/it's", "", "$HOME", "`id`", "a\nb", "*", "~", "!", "\"", "ä"] {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", word(text))]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
