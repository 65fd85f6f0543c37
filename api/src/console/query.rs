//! Query strings and path segments.

use std::collections::BTreeMap;

use reqwest::Url;

use super::failure::Failure;
use crate::error::ProblemCode;

/// Parameters of a page. Forms send every field, so that an empty one counts as missing.
pub(super) type Parameters = BTreeMap<String, String>;

/// The parameter, unless it is empty.
pub(super) fn text<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    let text = parameters.get(name).map(|text| text.trim());
    text.filter(|text| !text.is_empty())
}

/// `path` with those of `parameters` that have these names, and with `more`.
pub(super) fn path_with(
    path: &str,
    parameters: &Parameters,
    names: &[&str],
    more: &[(&str, &str)],
) -> String {
    let kept = names
        .iter()
        .filter_map(|name| Some((*name, text(parameters, name)?)));
    let pairs = kept.chain(more.iter().copied());
    let pairs = pairs.filter(|(_, value)| !value.is_empty());
    let url = Url::parse_with_params("http://console/", pairs);
    match url.as_ref().ok().and_then(Url::query) {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}

/// A segment of a path, as ids, slugs and names are. Anything else could lead to another route.
pub(super) fn segment(text: &str) -> Result<&str, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !text.is_empty() && text.bytes().all(is_plain) {
        Ok(text)
    } else {
        Err(Failure::new(
            ProblemCode::NotFound,
            "There is no such page.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped_and_paths_cannot_leave_their_route() {
        let parameters = Parameters::from([
            ("q".to_owned(), "a b&c=d".to_owned()),
            ("state".to_owned(), String::new()),
            ("other".to_owned(), "x".to_owned()),
        ]);

        let path = path_with("/jobs", &parameters, &["q", "state"], &[("limit", "25")]);

        assert_eq!(path, "/jobs?q=a+b%26c%3Dd&limit=25");
        assert_eq!(path_with("/jobs", &parameters, &["state"], &[]), "/jobs");
        assert!(segment("acme-1_x").is_ok());
        for wrong in ["", "..", "a/b", "a?b", "a%2fb", "é"] {
            assert!(segment(wrong).is_err(), "{wrong:?}");
        }
    }
}
