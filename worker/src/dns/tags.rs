//! Lists of `name=value` between semicolons: DKIM, DMARC, MTA-STS and TLS-RPT have them in common.

/// The tags of a record, in their order.
#[derive(Debug)]
pub(super) struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// All of it has to be tags, each once (RFC 6376, section 3.2).
    pub(super) fn strict(text: &'a str) -> Option<Self> {
        let mut tags = Self(Vec::new());
        let text = text.trim_matches(is_space);
        for part in text.strip_suffix(';').unwrap_or(text).split(';') {
            let (name, value) = tag(part)?;
            if tags.get(name).is_some() {
                return None;
            }
            tags.0.push((name, value));
        }
        Some(tags)
    }

    /// What is no tag is passed over, and of several the first counts (RFC 9989, section 4.8).
    pub(super) fn lenient(text: &'a str) -> Self {
        Self(text.split(';').filter_map(tag).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let mut tags = self.0.iter();
        tags.find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }

    /// Whether the list begins with this version.
    pub(super) fn begins_with(&self, version: &str) -> bool {
        self.0.first() == Some(&("v", version))
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
