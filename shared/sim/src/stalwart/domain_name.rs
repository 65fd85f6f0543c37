//! Validation and normalisation of domain names.

/// Special-use top-level domains that count as public suffixes.
const SPECIAL: [&str; 10] = [
    "test",
    "localhost",
    "local",
    "internal",
    "lan",
    "home",
    "corp",
    "intranet",
    "private",
    "localdomain",
];

/// Excerpt of the Public Suffix List, which does not contain `example`.
const PUBLIC: [&str; 28] = [
    "app", "at", "be", "biz", "ch", "cloud", "co", "co.uk", "com", "com.au", "de", "dev", "dk",
    "es", "eu", "fi", "fr", "info", "io", "it", "net", "nl", "no", "online", "org", "pl", "se",
    "uk",
];

/// The name in lower case, without white space, in its ASCII form. `None` if it is not a registrable domain.
pub(super) fn normalised(name: &str) -> Option<String> {
    let name: String = name
        .chars()
        .filter(|character| !character.is_whitespace())
        .collect();
    // The host of a URL is mapped in the same way (IDNA).
    let url = reqwest::Url::parse(&format!("http://{name}/")).ok()?;
    let name = url.domain()?.to_owned();
    let is_registrable = SPECIAL.iter().chain(&PUBLIC).any(|suffix| {
        name.strip_suffix(suffix)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| !rest.is_empty())
    });
    let is_accepted = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let has_empty_label = name.split('.').any(str::is_empty);
    (is_registrable && is_accepted && !has_empty_label).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_recorded() {
        assert_eq!(normalised("ACME.Test").unwrap(), "acme.test");
        assert_eq!(normalised("bücher.test").unwrap(), "xn--bcher-kva.test");
        assert_eq!(normalised("sub.acme.co.uk").unwrap(), "sub.acme.co.uk");
        assert_eq!(normalised("a_b.test").unwrap(), "a_b.test");
    }

    #[test]
    fn names_without_a_public_suffix_are_refused() {
        for name in [
            "acme.example",
            "not a domain",
            "test",
            "",
            "a/b.test",
            "a..test",
        ] {
            assert_eq!(normalised(name), None, "{name}");
        }
    }
}
