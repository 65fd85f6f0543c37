//! Tag lists: `name=value` pairs separated by semicolons, as in DKIM, DMARC, MTA-STS and TLS-RPT records.

/// The tags of a record, in order.
#[derive(Debug)]
pub(super) struct Tags<'a> {
    tags: Vec<(&'a str, &'a str)>,
    ignores_case: bool,
}

impl<'a> Tags<'a> {
    /// Parses a DKIM key record: tag names are case-sensitive, and each occurs once (RFC 6376, section 3.2).
    pub(super) fn dkim(text: &'a str) -> Option<Self> {
        let text = text.trim_matches(is_space);
        let parts = text.strip_suffix(';').unwrap_or(text).split(';');
        Self::unique(parts.map(tag))
    }

    /// Parses a DMARC record: tag names are case-insensitive, parts that are no tags are ignored, and of equal tags the
    /// first one counts (RFC 9989, sections 4.7 and 4.8).
    pub(super) fn dmarc(text: &'a str) -> Self {
        Self {
            tags: text.split(';').filter_map(tag).collect(),
            ignores_case: true,
        }
    }

    /// Parses an MTA-STS or TLS-RPT record: case-sensitive, without spaces around `=` (RFC 8461, section 3.1; RFC 8460,
    /// section 3).
    pub(super) fn smtp_tls(text: &'a str) -> Option<Self> {
        let parts = text.trim_end_matches(is_space);
        let parts = parts.strip_suffix(';').unwrap_or(parts).split(';');
        Self::unique(parts.map(|part| {
            let (name, value) = part.trim_matches(is_space).split_once('=')?;
            let mut characters = name.chars();
            let is_name = characters.next()?.is_ascii_alphanumeric()
                && characters.all(|it| it.is_ascii_alphanumeric() || "_-.".contains(it));
            let is_value = !value.is_empty() && !value.starts_with(is_space);
            (is_name && is_value).then_some((name, value))
        }))
    }

    fn unique(parsed: impl Iterator<Item = Option<(&'a str, &'a str)>>) -> Option<Self> {
        let mut tags = Self {
            tags: Vec::new(),
            ignores_case: false,
        };
        for tag in parsed {
            let (name, value) = tag?;
            if tags.get(name).is_some() {
                return None;
            }
            tags.tags.push((name, value));
        }
        Some(tags)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let mut tags = self.tags.iter();
        tags.find(|(other, _)| self.is_same(other, name))
            .map(|(_, value)| *value)
    }

    /// Whether the first tag is this version.
    pub(super) fn begins_with(&self, version: &str) -> bool {
        let first = self.tags.first();
        first.is_some_and(|(name, value)| self.is_same(name, "v") && *value == version)
    }

    /// The name of the first tag.
    pub(super) fn first_name(&self) -> Option<&'a str> {
        self.tags.first().map(|(name, _)| *name)
    }

    fn is_same(&self, one: &str, other: &str) -> bool {
        if self.ignores_case {
            one.eq_ignore_ascii_case(other)
        } else {
            one == other
        }
    }
}

fn tag(part: &str) -> Option<(&str, &str)> {
    let (name, value) = part.split_once('=')?;
    let (name, value) = (name.trim_matches(is_space), value.trim_matches(is_space));
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || character == '_');
    is_name.then_some((name, value))
}

/// Folding white space.
pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_around_semicolons_are_allowed_in_smtp_tls_records() {
        for text in [
            "v=STSv1; id=42",
            "v=STSv1; id=42;",
            "v=STSv1 ;\tid=42 ;  ",
            "v=STSv1;id=42  ",
        ] {
            let id = Tags::smtp_tls(text).and_then(|tags| tags.get("id"));
            assert_eq!(id, Some("42"), "{text:?}");
        }
        for text in ["v=STSv1; id =42", "v=STSv1; id= 42", "v=STSv1;; id=42"] {
            assert!(Tags::smtp_tls(text).is_none(), "{text:?}");
        }
    }
}
