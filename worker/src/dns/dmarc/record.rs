//! The text of a DMARC record, taken apart (RFC 9989, section 4.7; RFC 7489, section 6.3).

use dezky_shared::domain::DmarcPolicy;

use crate::dns::tags::{Tags, is_space};

/// A record that receivers heed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DmarcRecord {
    pub(super) policy: DmarcPolicy,
    /// For subdomains, where it differs.
    pub(super) subdomains: Option<DmarcPolicy>,
    /// For subdomains that do not exist, where it differs.
    pub(super) non_existent: Option<DmarcPolicy>,
    /// `psd=y`: of a public suffix. `psd=n`: of an organisation.
    pub(super) public_suffix: Option<bool>,
    /// `t=y`: receivers apply the next weaker policy.
    pub(super) testing: bool,
    /// `pct=` below 100, of receivers that came before RFC 9989.
    pub(super) partial: bool,
    /// Where aggregate reports go.
    pub(super) rua: Vec<String>,
}

impl DmarcRecord {
    /// Whether a text is a DMARC record at all.
    pub(super) fn is_one(text: &str) -> bool {
        Tags::lenient(text.split(';').next().unwrap_or_default()).begins_with("DMARC1")
    }

    /// A record without a valid policy counts as `p=none` if it asks for reports, else as nothing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let tags = Tags::lenient(text);
        let rua = tags.get("rua").unwrap_or_default().split(',');
        let rua: Vec<String> = rua
            .map(|uri| uri.trim_matches(is_space).to_owned())
            .filter(|uri| !uri.is_empty())
            .collect();
        let policy = match tags.get("p").and_then(policy) {
            Some(policy) => policy,
            None if rua.iter().any(|uri| mailbox(uri).is_some()) => DmarcPolicy::None,
            None => return None,
        };
        Some(Self {
            policy,
            subdomains: tags.get("sp").and_then(self::policy),
            non_existent: tags.get("np").and_then(self::policy),
            public_suffix: match tags.get("psd") {
                Some("y") => Some(true),
                Some("n") => Some(false),
                _ => None,
            },
            testing: tags.get("t") == Some("y"),
            partial: tags
                .get("pct")
                .and_then(|share| share.parse::<u8>().ok())
                .is_some_and(|share| share < 100),
            rua,
        })
    }
}

fn policy(text: &str) -> Option<DmarcPolicy> {
    [
        DmarcPolicy::None,
        DmarcPolicy::Quarantine,
        DmarcPolicy::Reject,
    ]
    .into_iter()
    .find(|policy| policy.name().eq_ignore_ascii_case(text))
}

/// The address of a `mailto:` URI, in lower case, and the domain in it. A limit of size (`!10m`) is left out.
pub(super) fn mailbox(uri: &str) -> Option<(String, String)> {
    let scheme = uri.get(..7)?;
    let address = uri.get(7..)?.split('!').next()?.to_ascii_lowercase();
    let (local, domain) = address.rsplit_once('@')?;
    let is_mailbox =
        scheme.eq_ignore_ascii_case("mailto:") && !local.is_empty() && !domain.is_empty();
    let domain = domain.to_owned();
    is_mailbox.then_some((address, domain))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = DmarcRecord::is_one(&text);
            let _ = DmarcRecord::parse(&format!("v=DMARC1; p={text}; rua={text}"));
            let _ = mailbox(&text);
        }
    }

    #[test]
    fn a_mailbox_is_taken_out_of_its_uri() {
        let mailbox = |uri| mailbox(uri).map(|(address, _)| address);

        assert_eq!(
            mailbox("mailto:A@Acme.test!10m").as_deref(),
            Some("a@acme.test")
        );
        assert_eq!(
            mailbox("MAILTO:a@acme.test").as_deref(),
            Some("a@acme.test")
        );
        assert_eq!(mailbox("a@acme.test"), None);
        assert_eq!(mailbox("mailto:acme.test"), None);
        assert_eq!(mailbox("mailto:a@"), None);
    }
}
