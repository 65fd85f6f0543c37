//! Fields of a patch: keep, remove or set (RFC 7396).

use serde::{Deserialize, Deserializer};

use super::{Validator, Violation};

/// Effect of a patch on an optional field. A missing field is [`FieldPatch::Keep`], by `#[serde(default)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldPatch<T> {
    /// The field is missing.
    #[default]
    Keep,
    /// The field is null.
    Remove,
    /// The field has a value.
    Set(T),
}

impl<T> FieldPatch<T> {
    /// Validates the value. A violation leaves [`FieldPatch::Remove`], so that the stored value takes no part in checks
    /// that follow.
    pub fn check<U>(
        self,
        validator: &mut Validator,
        pointer: &str,
        read: impl FnOnce(T) -> Result<U, Violation>,
    ) -> FieldPatch<U> {
        match self {
            Self::Keep => FieldPatch::Keep,
            Self::Remove => FieldPatch::Remove,
            Self::Set(value) => {
                let value = validator.check(pointer, read(value));
                value.map_or(FieldPatch::Remove, FieldPatch::Set)
            }
        }
    }

    /// Whether the field stays as it is.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The value to set.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Remove => None,
        }
    }
}

impl<T: Clone> FieldPatch<T> {
    /// Patches `field`.
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
