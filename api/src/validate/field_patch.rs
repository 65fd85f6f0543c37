//! A field of a change that may be left as it is, be removed, or get a value.

use serde::{Deserialize, Deserializer};

use super::{Validator, Violation};

/// What a field is to be. Where the field is missing it is [`FieldPatch::Keep`], by `#[serde(default)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldPatch<T> {
    /// As it is.
    #[default]
    Keep,
    /// Nothing: it was given as null.
    Remove,
    /// This.
    Set(T),
}

impl<T> FieldPatch<T> {
    /// The same with a value that was read, or a note of what is wrong with it.
    pub fn check<U>(
        self,
        checks: &mut Validator,
        pointer: &str,
        read: impl FnOnce(T) -> Result<U, Violation>,
    ) -> FieldPatch<U> {
        match self {
            Self::Keep => FieldPatch::Keep,
            Self::Remove => FieldPatch::Remove,
            Self::Set(value) => {
                let value = checks.check(pointer, read(value));
                value.map_or(FieldPatch::Keep, FieldPatch::Set)
            }
        }
    }
}

impl<T: Clone> FieldPatch<T> {
    /// Does it to `field`.
    pub fn apply(&self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Remove => *field = None,
            Self::Set(value) => *field = Some(value.clone()),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FieldPatch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::<T>::deserialize(deserializer)?;
        Ok(value.map_or(Self::Remove, Self::Set))
    }
}
