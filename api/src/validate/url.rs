//! URLs of pages and images.

use reqwest::Url;

use super::{Violation, too_long};
use crate::domain_name::is_public_name;

/// Maximum length of a URL, in characters.
const MAX_LENGTH: usize = 2048;

/// An `https` URL with a public domain name, without credentials or port.
///
/// Readers' browsers and mail servers fetch it, from networks where other names and ports lead to internal services.
pub fn https_url(text: &str) -> Result<String, Violation> {
    let invalid = || {
        let message =
            "Must be an https:// URL with a public domain name, without credentials or port.";
        ("invalid_url", message.to_owned())
    };
    if text.chars().count() > MAX_LENGTH {
        return Err(too_long(MAX_LENGTH));
    }
    let url = Url::parse(text).map_err(|_| invalid())?;
    let is_public = url.scheme() == "https"
        && url.domain().is_some_and(is_public_host)
        && url.port().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    // The parser accepts input that looks like another URL: tabs, line breaks, backslashes, surrounding spaces, a third
    // slash.
    let is_plain = text
        .strip_prefix("https://")
        .is_some_and(|rest| !rest.starts_with('/'))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    if is_public && is_plain {
        Ok(url.into())
    } else {
        Err(invalid())
    }
}

/// Whether a host name is public, and does not stand for an address: `127.0.0.1.nip.io`, `127-0-0-1.sslip.io`.
fn is_public_host(host: &str) -> bool {
    let parts: Vec<&str> = host.split(['.', '-']).collect();
    let is_byte = |part: &&str| part.parse::<u8>().is_ok();
    let has_address = parts.windows(4).any(|four| four.iter().all(is_byte));
    host.contains('.') && !has_address && is_public_name(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_https_with_a_domain_name() {
        assert_eq!(
            https_url("https://Help.Example.com/logo.svg?v=2").unwrap(),
            "https://help.example.com/logo.svg?v=2"
        );
        for bad in [
            "",
            "help.example.com",
            "http://help.example.com",
            "HTTPS:help.example.com",
            "https://",
            "https:///logo.svg",
            "https://localhost/logo.svg",
            "https://10.0.0.1/logo.svg",
            "https://metadata.google.internal/logo.svg",
            "https://printer.local/logo.svg",
            "https://nas.lan/logo.svg",
            "https://127.0.0.1.nip.io/logo.svg",
            "https://app-10-0-0-1.sslip.io/logo.svg",
            "https://help.example.com:22/logo.svg",
            "https://[::1]/logo.svg",
            "https://ada@example.com/",
            "https://ada:secret@example.com/",
            "https://example.com\\@evil.example",
            "https://example.com/a b",
            "https://exam\nple.com/",
            "javascript:alert(1)",
            "data:image/svg+xml,x",
        ] {
            assert_eq!(https_url(bad).unwrap_err().0, "invalid_url", "{bad:?}");
        }
        let long = format!("https://example.com/{}", "x".repeat(MAX_LENGTH));
        assert_eq!(https_url(&long).unwrap_err().0, "too_long");
    }
}
