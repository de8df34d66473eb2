//! The admin token: what `--admin-port` asks for, since loopback is shared with the application in the pod.

use crate::operator_http::Problem;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HOST, HeaderMap};
use http::{HeaderValue, StatusCode};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A token of 256 random bits. It cannot be printed.
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Others can read it, so it proves nothing.
    #[error("{} can be read by others (mode {mode:03o}); remove it, and a new one is made, or `chmod 600` it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Too short to be safe.
    #[error("{} holds no token (43 or more characters are needed); remove it, and a new one is made", path.display())]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("the admin token {} cannot be read or made; the data directory must be writable", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Characters of 256 bits in base64url.
const TOKEN_BYTES_MIN: usize = 43;

impl Token {
    /// Reads `DIR/admin.token`, or makes it with mode 0600.
    ///
    /// # Errors
    /// When it is no token, others can read it, or it cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join("admin.token");
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => make(file).map_err(|cause| TokenError::Io { path, cause }),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => read(path),
            Err(cause) => Err(TokenError::Io { path, cause }),
        }
    }

    /// Whether a request carries it and was meant for us.
    ///
    /// # Errors
    /// What is missing. A browser that a foreign page made ask under a name it rebound to 127.0.0.1 fails by `Host`.
    pub(super) fn admits(&self, headers: &HeaderMap, port: u16) -> Result<(), Problem> {
        let host = single(headers.get_all(HOST)).unwrap_or_default();
        let loopback = ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| *host == format!("{name}:{port}"));
        if !loopback {
            let detail = "the Host of the request is not this port's".to_owned();
            let fix = format!("ask for http://127.0.0.1:{port}/");
            return Err(Problem { status: StatusCode::MISDIRECTED_REQUEST, code: "other_host", detail, fix });
        }
        let presented = single(headers.get_all(AUTHORIZATION)).and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        verify_slices_are_equal(presented.as_bytes(), self.0.as_bytes()).map_err(|_| Problem {
            status: StatusCode::UNAUTHORIZED,
            code: "invalid_admin_token",
            detail: "the request carries no valid admin token".to_owned(),
            fix: "send `Authorization: Bearer` with the text of admin.token in the data directory".to_owned(),
        })
    }
}

fn single<'a>(values: http::header::GetAll<'a, HeaderValue>) -> Option<&'a str> {
    let mut values = values.iter();
    let first = values.next()?.to_str().ok();
    first.filter(|_| values.next().is_none())
}

fn make(mut file: File) -> io::Result<Token> {
    let mut bits = [0; 32];
    crate::entropy::fill(&mut bits)?;
    let token = URL_SAFE_NO_PAD.encode(bits);
    writeln!(file, "{token}")?;
    file.sync_all()?;
    Ok(Token(token))
}

fn read(path: PathBuf) -> Result<Token, TokenError> {
    let read = || {
        let file = File::open(&path)?;
        let mode = file.metadata()?.mode() & 0o777;
        let mut text = String::new();
        file.take(4 << 10).read_to_string(&mut text)?;
        Ok((mode, text.trim().to_owned()))
    };
    match read() {
        Err(cause) => Err(TokenError::Io { path, cause }),
        Ok((mode, _)) if mode & 0o077 != 0 => Err(TokenError::Open { path, mode }),
        Ok((_, token)) if token.len() < TOKEN_BYTES_MIN => Err(TokenError::Short { path }),
        Ok((_, token)) => Ok(Token(token)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::open(folder.path()).unwrap();
        let path = folder.path().join("admin.token");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), token.0);
        assert_eq!(Token::open(folder.path()).unwrap().0, token.0);
        assert_eq!(format!("{token:?}"), "[redacted]");
    }

    #[test]
    fn a_token_that_others_can_read_or_guess_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        Token::open(folder.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Token::open(folder.path()), Err(TokenError::Open { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(Token::open(folder.path()), Err(TokenError::Short { .. })));
    }

    #[test]
    fn only_the_token_under_our_own_name_is_admitted() {
        let token = Token("t".repeat(43));
        let good = format!("Bearer {}", token.0);
        for (host, authorization, code) in [
            (Some("127.0.0.1:4790"), Some(good.as_str()), None),
            (Some("localhost:4790"), Some(&good), None),
            (Some("[::1]:4790"), Some(&good), None),
            (Some("evil.example:4790"), Some(&good), Some("other_host")),
            (Some("127.0.0.1:80"), Some(&good), Some("other_host")),
            (Some("127.0.0.1"), Some(&good), Some("other_host")),
            (None, Some(&good), Some("other_host")),
            (Some("127.0.0.1:4790"), None, Some("invalid_admin_token")),
            (Some("127.0.0.1:4790"), Some("Bearer "), Some("invalid_admin_token")),
            (Some("127.0.0.1:4790"), Some("Bearer tt"), Some("invalid_admin_token")),
            (Some("127.0.0.1:4790"), Some(&token.0), Some("invalid_admin_token")),
        ] {
            let mut headers = HeaderMap::new();
            host.map(|host| headers.insert(HOST, host.parse().unwrap()));
            authorization.map(|text| headers.insert(AUTHORIZATION, text.parse().unwrap()));
            let refused = token.admits(&headers, 4790).err().map(|problem| problem.code);
            assert_eq!(refused, code, "{host:?} {authorization:?}");
        }
    }

    #[test]
    fn two_hosts_or_two_tokens_are_none() {
        let token = Token("t".repeat(43));
        let mut headers = HeaderMap::new();
        headers.append(HOST, "localhost:4790".parse().unwrap());
        headers.append(AUTHORIZATION, format!("Bearer {}", token.0).parse().unwrap());
        headers.append(AUTHORIZATION, "Bearer other".parse().unwrap());
        assert_eq!(token.admits(&headers, 4790).unwrap_err().code, "invalid_admin_token");
        headers.append(HOST, "localhost:4790".parse().unwrap());
        assert_eq!(token.admits(&headers, 4790).unwrap_err().code, "other_host");
    }
}
