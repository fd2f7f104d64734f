//! `auth`: the bearer token that a caller must know, where one is set.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq as _;

use crate::problem::Problem;

/// The shortest token: 16 characters of Base64 are 96 bits, more than anyone guesses.
pub const TOKEN_CHARS_MIN: usize = 16;

/// A secret that callers show. It is compared in constant time, and never printed.
#[derive(Clone)]
pub struct Token {
    text: String,
}

/// A file that holds no token. The messages never have the file's content in them.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds too little.
    #[error("the token in {} has {count} characters, and needs {TOKEN_CHARS_MIN}", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// How many it has.
        count: usize,
    },
    /// It holds what no header can carry.
    #[error("the token in {} has a space, a line break or a character beyond ASCII in it", path.display())]
    NotOneWord {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// Reads a file that holds a token and nothing else; white space around it
    /// does not count.
    ///
    /// # Errors
    ///
    /// Where there is no such file, or the token is too short, or not one word.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(TokenError::Unreadable { path, source }),
        };
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::NotOneWord { path });
        }
        match text.len() {
            count if count < TOKEN_CHARS_MIN => Err(TokenError::TooShort { path, count }),
            _ => Ok(Self { text: text.to_owned() }),
        }
    }

    /// Whether the text is this token: the time it takes tells at most the length.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        self.text.as_bytes().ct_eq(text).into()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.text.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request through that shows the token.
///
/// # Errors
///
/// With the answer to one that does not.
pub(super) fn check(token: Option<&Token>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = token else { return Ok(()) };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    // RFC 6750, section 3.1: who shows none is told no more than the scheme.
    const NONE: (&str, &str) = ("www-authenticate", "Bearer");
    const WRONG: (&str, &str) = ("www-authenticate", "Bearer error=\"invalid_token\"");
    let (challenge, detail) = match shown {
        Some(shown) if token.is(shown) => return Ok(()),
        Some(_) => (&WRONG, "the token is not the publisher's"),
        None => (&NONE, "send the publisher's token: `Authorization: Bearer …`"),
    };
    let title = "the request does not show the publisher's token";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail);
    Err(problem.with_header(challenge))
}

/// What follows the scheme, which is of either case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn token() -> Token {
        Token { text: SECRET.to_owned() }
    }

    #[test]
    fn only_the_whole_token_under_its_scheme_is_let_through() {
        for (value, is_let) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("bearer   0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer 0123456789abcde"), false),
            (Some("Bearer 0123456789abcdef0"), false),
            (Some("Bearer "), false),
            (Some("0123456789abcdef"), false),
            (Some("Basic 0123456789abcdef"), false),
            (None, false),
        ] {
            let pairs = value.map(|value| (header::AUTHORIZATION, value.parse().unwrap()));
            let headers: HeaderMap = pairs.into_iter().collect();
            assert_eq!(check(Some(&token()), &headers).is_ok(), is_let, "{value:?}");
            assert!(check(None, &headers).is_ok());
        }
    }

    #[test]
    fn a_token_does_not_print_itself() {
        assert!(!format!("{:?}", token()).contains(SECRET));
    }
}
