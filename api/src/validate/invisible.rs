//! Invisible characters, with which a text can look empty or like another one.

use icu_properties::{
    CodePointSetData,
    props::{CanonicalCombiningClass, EnumeratedProperty as _, ExtendedPictographic, JoiningType},
};

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';

/// Flag that tag characters turn into the flag of a part of a country.
const BLACK_FLAG: char = '\u{1f3f4}';
/// The tags of such flags that are recommended for interchange (UTS 51), as ASCII: England, Scotland and Wales.
const FLAG_TAGS: [&str; 3] = ["gbeng\u{7f}", "gbsct\u{7f}", "gbwls\u{7f}"];

/// The text without joiners that change nothing, as keyboards insert them. `None` if it has other invisible characters;
/// joiners that change how their neighbours are written, and tags of flags, are none.
pub(super) fn without_invisible(text: &str) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut visible = String::with_capacity(text.len());
    for (at, &character) in characters.iter().enumerate() {
        if !is_invisible(character)
            || is_joiner_in_context(&characters, at)
            || is_tag_of_flag(&characters, at)
        {
            visible.push(character);
        } else if !is_joiner_without_effect(&characters, at) {
            return None;
        }
    }
    Some(visible)
}

/// Whether a character is invisible, breaks the line or changes the text direction.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        // Blank letters of Hangul.
        | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
}

/// Whether a joiner stands where scripts need one: beside a virama, after a letter of a script whose letters join (RFC
/// 5892, appendix A), or in a sequence of emoji.
fn is_joiner_in_context(characters: &[char], at: usize) -> bool {
    let (before, after) = (&characters[..at], &characters[at + 1..]);
    let Some((&last, &next)) = before.last().zip(after.first()) else {
        return false;
    };
    match characters[at] {
        NON_JOINER => is_virama(last) || joins(before, after),
        // Before a virama in Bengali and Kannada: Unicode Standard, sections 12.2 and 12.8.
        JOINER => {
            is_virama(last)
                || is_virama(next)
                || joins(before, after)
                || is_emoji(last) && is_pictograph(next)
        }
        _ => false,
    }
}

fn is_virama(c: char) -> bool {
    CanonicalCombiningClass::for_char(c) == CanonicalCombiningClass::Virama
}

/// Whether the letters around would be joined, marks aside.
fn joins(before: &[char], after: &[char]) -> bool {
    let (last, next) = letters_around(before, after);
    matches!(last, JoiningType::LeftJoining | JoiningType::DualJoining)
        && matches!(next, JoiningType::RightJoining | JoiningType::DualJoining)
}

/// Whether a joiner stands between letters of a script whose letters join, and these two do not.
fn is_joiner_without_effect(characters: &[char], at: usize) -> bool {
    let (last, next) = letters_around(&characters[..at], &characters[at + 1..]);
    let is_joining = |letter| {
        matches!(
            letter,
            JoiningType::LeftJoining | JoiningType::RightJoining | JoiningType::DualJoining
        )
    };
    matches!(characters[at], JOINER | NON_JOINER) && is_joining(last) && is_joining(next)
}

/// Joining of the letters before and after, marks aside. At the start and the end of a text: not at all.
fn letters_around(before: &[char], after: &[char]) -> (JoiningType, JoiningType) {
    let letter = |c: &char| {
        let joining = JoiningType::for_char(*c);
        (joining != JoiningType::Transparent).then_some(joining)
    };
    let last = before.iter().rev().find_map(letter);
    let next = after.iter().find_map(letter);
    (
        last.unwrap_or(JoiningType::NonJoining),
        next.unwrap_or(JoiningType::NonJoining),
    )
}

/// Whether a character is part of the tags of a flag.
fn is_tag_of_flag(characters: &[char], at: usize) -> bool {
    let is_tag = |c: &char| ('\u{e0020}'..='\u{e007f}').contains(c);
    let base = characters[..at].iter().rposition(|c| !is_tag(c));
    let Some(base) = base.filter(|&base| characters[base] == BLACK_FLAG) else {
        return false;
    };
    let tags = characters[base + 1..].iter().take_while(|c| is_tag(c));
    let tags = tags.filter_map(|c| char::from_u32(u32::from(*c) - 0xe0000));
    FLAG_TAGS.contains(&tags.collect::<String>().as_str())
}

/// Whether a character can end an emoji: a pictograph, its presentation selector or a skin tone.
fn is_emoji(c: char) -> bool {
    is_pictograph(c) || matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

fn is_pictograph(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}
