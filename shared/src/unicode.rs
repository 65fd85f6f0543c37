//! Unicode normalization: names are stored, compared and searched composed (NFC).

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// The text in normalization form C. Systems type the same letter in different forms: é is one character, or e with an
/// accent of its own.
///
/// ```
/// assert_eq!(dezky_shared::unicode::composed("Cafe\u{301}"), "Café");
/// ```
pub fn composed(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}
