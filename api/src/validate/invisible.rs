//! Invisible characters, with which a text can look empty or like another one.

use icu_properties::{
    CodePointSetData,
    props::{CanonicalCombiningClass, EnumeratedProperty as _, ExtendedPictographic, JoiningType},
};

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';

/// Whether a text has invisible characters, other than joiners that change how their neighbours are written.
pub(super) fn has_invisible(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    (0..characters.len())
        .any(|at| is_invisible(characters[at]) && !is_joiner_in_context(&characters, at))
}

/// Whether a character is invisible, breaks the line or changes the text direction.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        // Blank letters of Hangul.
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
}

/// Whether a joiner stands where scripts need one: after a virama, between letters that would join (RFC 5892, appendix
/// A), or in a sequence of emoji.
fn is_joiner_in_context(characters: &[char], at: usize) -> bool {
    let (before, after) = (&characters[..at], &characters[at + 1..]);
    let Some((&last, &next)) = before.last().zip(after.first()) else {
        return false;
    };
    match characters[at] {
        NON_JOINER => is_virama(last) || joins(before, after),
        JOINER => is_virama(last) || joins(before, after) || is_emoji(last) && is_pictograph(next),
        _ => false,
    }
}

fn is_virama(c: char) -> bool {
    CanonicalCombiningClass::for_char(c) == CanonicalCombiningClass::Virama
}

/// Whether the letters around would be joined, marks aside.
fn joins(before: &[char], after: &[char]) -> bool {
    let is_letter = |c: &&char| JoiningType::for_char(**c) != JoiningType::Transparent;
    let last = before.iter().rev().find(is_letter);
    let next = after.iter().find(is_letter);
    let joins_next = |c: &char| {
        matches!(
            JoiningType::for_char(*c),
            JoiningType::LeftJoining | JoiningType::DualJoining
        )
    };
    let joins_last = |c: &char| {
        matches!(
            JoiningType::for_char(*c),
            JoiningType::RightJoining | JoiningType::DualJoining
        )
    };
    last.is_some_and(joins_next) && next.is_some_and(joins_last)
}

/// Whether a character can end an emoji: a pictograph, its presentation selector or a skin tone.
fn is_emoji(c: char) -> bool {
    is_pictograph(c) || matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

fn is_pictograph(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}
