//! Report addresses: `mailto:` URIs in DMARC and TLS-RPT records (RFC 3986, RFC 6068).

/// The mailbox of a `mailto:` URI, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) address: String,
    pub(super) domain: String,
}

impl Mailbox {
    /// Parses a URI. The query, the fragment and the obsolete size limit (`!10m`) are not part of the mailbox.
    pub(super) fn of_uri(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let path = rest.split(['?', '#', '!']).next()?;
        let address = percent_decoded(path)?.to_ascii_lowercase();
        let (local, domain) = address.rsplit_once('@')?;
        let is_mailbox =
            scheme.eq_ignore_ascii_case("mailto") && !local.is_empty() && !domain.is_empty();
        let domain = domain.to_owned();
        is_mailbox.then_some(Self { address, domain })
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let digits = part.get(..2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn any_text_can_be_parsed(text in any::<String>()) {
            let _ = Mailbox::of_uri(&text);
            let _ = Mailbox::of_uri(&format!("mailto:{text}"));
        }
    }

    #[test]
    fn a_mailbox_is_extracted_from_its_uri() {
        let mailbox = |uri| Mailbox::of_uri(uri).map(|it| (it.address, it.domain));
        let acme = Some(("a@acme.test".to_owned(), "acme.test".to_owned()));

        for uri in [
            "mailto:A@Acme.test!10m",
            "MAILTO:a@acme.test",
            "mailto:a@acme.test?subject=x!10m",
            "mailto:a@acme.test#x",
            "mailto:%61%40acme.test",
        ] {
            assert_eq!(mailbox(uri), acme, "{uri}");
        }
        for uri in [
            "a@acme.test",
            "mailto:acme.test",
            "mailto:a@",
            "mailto:%6@acme.test",
            "mailto:%ff@acme.test",
            "https://a@acme.test",
        ] {
            assert_eq!(mailbox(uri), None, "{uri}");
        }
    }
}
