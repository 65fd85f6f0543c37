//! Near misses: records that were evidently published for a check but that receivers ignore, such as one with typed
//! quotes or one at the wrong name. They stay missing; the customer sees the record and its error.

use super::{
    evidence::{Evidence, NearMiss},
    resolver::{Answer, RecordType, Resolver},
};

/// Prefix of the records of one check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// The first tag and its separator, such as `v=DMARC1;`.
    pub(super) beginning: &'static str,
    /// Whether receivers accept a text as a record of this format.
    pub(super) accepts: fn(&str) -> bool,
}

impl Format {
    /// Whether a text is a record of this format or a near miss.
    pub(super) fn resembles(self, text: &str) -> bool {
        (self.accepts)(text) || self.near_miss(text).is_some()
    }

    /// Reason why a text that resembles a record is none.
    pub(super) fn near_miss(self, text: &str) -> Option<NearMiss> {
        let separator = |it: char| matches!(it, ' ' | ';');
        let version = self.beginning.trim_end_matches(separator);
        if (self.accepts)(text) || !begins_like(text, version) {
            return None;
        }
        Some(match text {
            text if text.contains(QUOTES) => NearMiss::Quotes,
            text if text.contains('\\') => NearMiss::Backslashes,
            text if text.chars().any(is_false_space) => NearMiss::NonBreakingSpace,
            _ => NearMiss::Beginning(self.beginning),
        })
    }

    /// Looks for a near miss of the record that should be at `name`: in the answer for that name, at the domain itself,
    /// and at the name with the domain appended once more, which some providers make of a full name.
    pub(super) async fn explain_missing(
        self,
        resolver: &impl Resolver,
        (name, domain): (&str, &str),
        answer: &Answer,
        evidence: &mut Evidence,
    ) {
        if let Some(near_miss) = answer.texts().find_map(|text| self.near_miss(text)) {
            evidence.add_ignored(name, answer, |text| self.resembles(text));
            evidence.near_miss(near_miss);
            return;
        }
        for other in [domain.to_owned(), format!("{name}.{domain}")] {
            if other == name {
                continue;
            }
            // A failed lookup leaves the record missing without an explanation.
            let Ok(answer) = resolver.lookup(&other, RecordType::TXT).await else {
                continue;
            };
            if answer.texts().any(|text| self.resembles(text)) {
                evidence.add_ignored(&other, &answer, |text| self.resembles(text));
                evidence.near_miss(NearMiss::Location(other));
                return;
            }
        }
    }
}

const QUOTES: [char; 6] = ['"', '\'', '\u{201c}', '\u{201d}', '\u{201e}', '\u{2019}'];

/// Invalid UTF-8, which the replacement character stands for, is a no-break space of Latin-1 more often than not.
fn is_false_space(character: char) -> bool {
    (character.is_whitespace() && !character.is_ascii())
        || matches!(character, '\u{200b}' | '\u{feff}' | '\u{fffd}')
}

/// Whether a text begins with a version tag, ignoring case, quotes, backslashes and spaces.
fn begins_like(text: &str, version: &str) -> bool {
    let mut rest = text.chars();
    let mut next_significant = || {
        rest.find(|it| {
            !it.is_whitespace() && !is_false_space(*it) && !QUOTES.contains(it) && *it != '\\'
        })
    };
    let begins = version.chars().all(|expected| {
        next_significant().is_some_and(|found| found.eq_ignore_ascii_case(&expected))
    });
    // `v=spf10` is another version.
    begins && (version.ends_with('=') || !rest.next().is_some_and(|it| it.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, proptest};

    use super::*;

    const DMARC: Format = Format {
        beginning: "v=DMARC1;",
        accepts: |text| text.starts_with("v=DMARC1;"),
    };

    proptest! {
        #[test]
        fn any_text_can_be_examined(text in any::<String>()) {
            let _ = DMARC.near_miss(&text);
            let _ = DMARC.near_miss(&format!("v=DMARC1{text}"));
        }
    }

    #[test]
    fn a_near_miss_is_classified() {
        for (text, expected) in [
            ("\"v=DMARC1; p=reject\"", Some(NearMiss::Quotes)),
            ("\u{201c}v=DMARC1; p=reject\u{201d}", Some(NearMiss::Quotes)),
            ("v=DMARC1\\; p=reject", Some(NearMiss::Backslashes)),
            ("v=DMARC1\u{a0}; p=reject", Some(NearMiss::NonBreakingSpace)),
            ("v=DMARC1\u{fffd}p=reject", Some(NearMiss::NonBreakingSpace)),
            ("v=DMARC1 p=reject", Some(NearMiss::Beginning("v=DMARC1;"))),
            ("v=dmarc1; p=reject", Some(NearMiss::Beginning("v=DMARC1;"))),
            (
                " v = DMARC1, p=reject",
                Some(NearMiss::Beginning("v=DMARC1;")),
            ),
            ("v=DMARC1; p=reject", None),
            ("v=DMARC10; p=reject", None),
            ("v=spf1 -all", None),
            ("", None),
        ] {
            assert_eq!(DMARC.near_miss(text), expected, "{text}");
        }
    }
}
