//! Lists of distinct values.

use std::{collections::BTreeSet, fmt::Display};

use super::{Validator, Violation};
use crate::error::FieldError;

/// A list of at most `max` distinct values, each parsed by `parse`.
pub fn distinct_list<T: Ord + Clone + Display>(
    validator: &mut Validator,
    pointer: &str,
    texts: &[String],
    max: usize,
    parse: impl Fn(&str) -> Result<T, Violation>,
) -> Option<Vec<T>> {
    if texts.len() > max {
        let message = format!("Must have at most {max} entries.");
        validator.push(FieldError::at(pointer, "too_many", message));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let once = parse(text).and_then(|value| {
            if seen.insert(value.clone()) {
                Ok(value)
            } else {
                Err(("duplicate", format!("Duplicate entry: {value}.")))
            }
        });
        values.extend(validator.check(&format!("{pointer}/{index}"), once));
    }
    (values.len() == texts.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::security_policy::network;

    #[test]
    fn a_list_reports_invalid_and_duplicate_entries() {
        let mut validator = Validator::default();
        let texts = ["192.0.2.7", "x", "192.0.2.7/32"].map(str::to_owned);

        let list = distinct_list(&mut validator, "/ipAllowlist", &texts, 3, network);

        let errors = validator.finish(list).unwrap_err();
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error.pointer.as_deref().unwrap(), error.code.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("/ipAllowlist/1", "invalid_network"),
                ("/ipAllowlist/2", "duplicate"),
            ]
        );
    }
}
