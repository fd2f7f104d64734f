//! `wildcard` patterns: `*` stands for any run of characters, `\*` and `\\` for the characters
//! themselves.

/// A pattern as the literals between its stars: one more of them than stars.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wildcard {
    pieces: Vec<String>,
}

/// Why a pattern is refused (README of `aws/event-ruler`, "Wildcard matching").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WildcardFault {
    ConsecutiveStars,
    BadEscape,
}

impl Wildcard {
    pub(super) fn parse(pattern: &str) -> Result<Self, WildcardFault> {
        let mut pieces = vec![String::new()];
        let mut after_star = false;
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let literal = match character {
                '*' if after_star => return Err(WildcardFault::ConsecutiveStars),
                '*' => {
                    pieces.push(String::new());
                    after_star = true;
                    continue;
                }
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '\\')) => escaped,
                    _ => return Err(WildcardFault::BadEscape),
                },
                other => other,
            };
            after_star = false;
            if let Some(piece) = pieces.last_mut() {
                piece.push(literal);
            }
        }
        Ok(Self { pieces })
    }

    pub(super) fn stars(&self) -> usize {
        self.pieces.len() - 1
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            return self.pieces.first().is_some_and(|only| only == text);
        };
        let Some(rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else {
            return false;
        };
        // Taking each piece at its first place leaves the most room for those after it.
        for piece in middle {
            let Some(at) = rest.find(piece.as_str()) else {
                return false;
            };
            rest = &rest[at + piece.len()..];
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        let cases = [
            ("*ball", "baseball", true),
            ("*ball", "ball", true),
            ("*ball", "balls", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*aab*", "aaab", true),
            ("plain", "plain", true),
            ("plain", "plainer", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"a\\*", r"a\anything", true),
            ("ü*ö", "üäö", true),
        ];
        for (pattern, text, expected) in cases {
            let wildcard = Wildcard::parse(pattern).expect(pattern);
            assert_eq!(wildcard.matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn faulty_patterns_are_refused() {
        assert_eq!(Wildcard::parse("a**b"), Err(WildcardFault::ConsecutiveStars));
        for pattern in [r"a\b", r"a\"] {
            assert_eq!(Wildcard::parse(pattern), Err(WildcardFault::BadEscape), "{pattern}");
        }
        assert_eq!(Wildcard::parse(r"*\**").map(|wildcard| wildcard.stars()), Ok(2));
    }
}
