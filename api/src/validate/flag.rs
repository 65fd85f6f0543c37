//! Fields of a feature flag.

use super::{Violation, empty, invalid_characters, too_long, without_invisible};

/// Maximum length of a description, in characters.
const MAX_DESCRIPTION: usize = 500;
/// A key that would collide with the path `/flags/evaluate`.
const RESERVED: &str = "evaluate";

/// A key: `^[a-z][a-z0-9_]{1,63}$`, not reserved.
pub fn key(text: &str) -> Result<String, Violation> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let well_formed = (2..=64).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_lowercase());
    if !well_formed {
        let message = "A key must be 2–64 characters: lower-case letters, digits and _. It starts with a letter.";
        return Err(("invalid_key", message.to_owned()));
    }
    if text == RESERVED {
        return Err(("reserved_key", format!("{text:?} is reserved.")));
    }
    Ok(text.to_owned())
}

/// A description. May have several lines.
pub fn description(text: &str) -> Result<String, Violation> {
    let text = text.trim();
    if text.is_empty() {
        return Err(empty());
    }
    if text.chars().count() > MAX_DESCRIPTION {
        return Err(too_long(MAX_DESCRIPTION));
    }
    let is_control = |c: char| c.is_control() && c != '\n';
    if text.chars().any(is_control) {
        return Err(invalid_characters());
    }
    without_invisible(text).ok_or_else(invalid_characters)
}

/// A percentage, without decimals.
pub fn percentage(number: i64) -> Result<u8, Violation> {
    match u8::try_from(number) {
        Ok(percentage @ 0..=100) => Ok(percentage),
        _ => Err(("out_of_range", "Must be 0–100.".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_short_and_not_reserved() {
        let code = |text: &str| key(text).map_err(|(code, _)| code);

        for good in ["ab", "beta_search", "b2", &"a".repeat(64)] {
            assert_eq!(code(good).as_deref(), Ok(good));
        }
        for bad in ["", "a", "2b", "_b", "Beta", "a-b", "aö", &"a".repeat(65)] {
            assert_eq!(code(bad), Err("invalid_key"), "{bad:?}");
        }
        assert_eq!(code("evaluate"), Err("reserved_key"));
    }

    #[test]
    fn a_description_is_visible_text() {
        let code = |text: &str| description(text).map_err(|(code, _)| code);

        assert_eq!(code(" Two\nlines ").as_deref(), Ok("Two\nlines"));
        assert_eq!(code(" \n "), Err("too_short"));
        assert_eq!(code(&"ö".repeat(501)), Err("too_long"));
        assert_eq!(code("a\u{202e}b"), Err("invalid_characters"));
        assert_eq!(code("a\u{7}b"), Err("invalid_characters"));
    }

    #[test]
    fn a_percentage_is_0_to_100() {
        assert_eq!(percentage(0), Ok(0));
        assert_eq!(percentage(100), Ok(100));
        for invalid in [-1, 101, 256, i64::MIN, i64::MAX] {
            assert!(percentage(invalid).is_err(), "{invalid}");
        }
    }
}
