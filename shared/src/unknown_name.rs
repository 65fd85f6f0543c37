//! Names of enum values that only a newer build defines.
//!
//! During a rolling deploy builds of different versions read the same documents. A stored enum gets a last variant
//! `#[serde(untagged)] Unknown(UnknownName)`: an older build then reads a value that it does not know, and stores it
//! unchanged.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Maximum number of distinct names in a process. Builds differ by a few; more are an error of decoding.
const MAX_NAMES: usize = 1_000;
/// Maximum length of a name in bytes.
const MAX_LENGTH: usize = 64;

/// All names met so far.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Name of an enum value that this build does not define. Interned, so that the enum remains `Copy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnknownName(&'static str);

impl UnknownName {
    /// The name, as stored.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The interned name. `None` if it is too long, or one too many.
    fn intern(name: &str) -> Option<Self> {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return Some(Self(known));
        }
        if name.len() > MAX_LENGTH || names.len() >= MAX_NAMES {
            return None;
        }
        let interned: &'static str = Box::leak(name.into());
        names.insert(interned);
        Some(Self(interned))
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for UnknownName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for UnknownName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::intern(&name).ok_or_else(|| D::Error::custom("not a name of an enum value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_and_a_text_is_no_name() {
        let name = UnknownName::intern("of_the_next_release").unwrap();

        assert_eq!(UnknownName::intern("of_the_next_release"), Some(name));
        assert_eq!(name.as_str(), "of_the_next_release");
        assert_eq!(UnknownName::intern(&"long".repeat(MAX_LENGTH)), None);
    }
}
